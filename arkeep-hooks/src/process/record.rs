//! What the warden tells the agent.

/// One message on the status pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// The hook did not start: this step of its preparation failed.
    Failed(Step),
    /// Everything is dead.
    Ended {
        /// The wait status of the hook's first process.
        status: i32,
        /// It ended before anybody killed it.
        by_itself: bool,
        /// It left processes behind.
        leftovers: bool,
        /// There were still some when the warden gave up.
        survivors: bool,
    },
}

/// A step between the fork and the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Group,
    Session,
    Limits,
    User,
    Descriptors,
    Exec,
}

impl Record {
    pub(super) const LEN: usize = 8;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        match self {
            Self::Failed(step) => [1, step.code(), 0, 0, 0, 0, 0, 0],
            Self::Ended {
                status,
                by_itself,
                leftovers,
                survivors,
            } => {
                let [a, b, c, d] = status.to_le_bytes();
                [
                    2,
                    by_itself.into(),
                    leftovers.into(),
                    survivors.into(),
                    a,
                    b,
                    c,
                    d,
                ]
            }
        }
    }

    pub(super) fn decode(bytes: [u8; Self::LEN]) -> Option<Self> {
        match bytes {
            [1, step, ..] => Step::ALL
                .into_iter()
                .find(|s| s.code() == step)
                .map(Self::Failed),
            [2, by_itself, leftovers, survivors, a, b, c, d] => Some(Self::Ended {
                status: i32::from_le_bytes([a, b, c, d]),
                by_itself: by_itself != 0,
                leftovers: leftovers != 0,
                survivors: survivors != 0,
            }),
            _ => None,
        }
    }
}

impl Step {
    const ALL: [Self; 6] = [
        Self::Group,
        Self::Session,
        Self::Limits,
        Self::User,
        Self::Descriptors,
        Self::Exec,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Group => 0,
            Self::Session => 1,
            Self::Limits => 2,
            Self::User => 3,
            Self::Descriptors => 4,
            Self::Exec => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_encodes() {
        let ended = Record::Ended {
            status: -7,
            by_itself: true,
            leftovers: false,
            survivors: true,
        };
        assert_eq!(Record::decode(ended.encode()), Some(ended));
        for step in Step::ALL {
            let failed = Record::Failed(step);
            assert_eq!(Record::decode(failed.encode()), Some(failed));
        }
        assert_eq!(Record::decode([0; Record::LEN]), None);
    }
}
