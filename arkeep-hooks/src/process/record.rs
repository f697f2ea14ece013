//! What the warden tells the agent.

/// One message on the status pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// The hook did not start: this step of its preparation failed.
    Failed(Step),
    /// The hook starts without this layer of the sandbox.
    Lacking(Layer),
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
    Sandbox,
    Exec,
}

/// A layer of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Mounts,
    Capabilities,
    Landlock,
    Filter,
}

impl Layer {
    const ALL: [Self; 4] = [
        Self::Mounts,
        Self::Capabilities,
        Self::Landlock,
        Self::Filter,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Mounts => 0,
            Self::Capabilities => 1,
            Self::Landlock => 2,
            Self::Filter => 3,
        }
    }

    /// What is missing without it.
    pub(super) fn lack(self) -> &'static str {
        match self {
            Self::Mounts => "mount namespace, and so nothing hides the agent's files",
            Self::Capabilities | Self::Landlock | Self::Filter => self.name(),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mounts => "mount namespace",
            Self::Capabilities => "dropped capabilities",
            Self::Landlock => "Landlock",
            Self::Filter => "system call filter",
        }
    }
}

impl Record {
    pub(super) const LEN: usize = 8;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        match self {
            Self::Failed(step) => [1, step.code(), 0, 0, 0, 0, 0, 0],
            Self::Lacking(layer) => [3, layer.code(), 0, 0, 0, 0, 0, 0],
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
            [3, layer, ..] => Layer::ALL
                .into_iter()
                .find(|l| l.code() == layer)
                .map(Self::Lacking),
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
    const ALL: [Self; 7] = [
        Self::Group,
        Self::Session,
        Self::Limits,
        Self::User,
        Self::Descriptors,
        Self::Sandbox,
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
            Self::Sandbox => 6,
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
        for layer in Layer::ALL {
            let lacking = Record::Lacking(layer);
            assert_eq!(Record::decode(lacking.encode()), Some(lacking));
        }
        assert_eq!(Record::decode([0; Record::LEN]), None);
    }
}
