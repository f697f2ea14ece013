use std::fmt;

use arkeep_core::StoreError;

use super::{AuditStore, ChainHash, Entry, Head};

/// Reads a whole chain, beside whoever appends to it, and tells every fault. Returns its end.
///
/// `noted` are heads that somebody has kept in other places.
pub async fn verify(
    store: &dyn AuditStore,
    noted: &[Head],
    mut tell: impl FnMut(Fault),
) -> Result<Head, StoreError> {
    let mut known = noted.to_vec();
    known.push(store.head().await?);
    let mut verifier = Verifier::new(known);
    loop {
        let entries = store.following(verifier.head().seq, AT_ONCE).await?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            verifier.see(entry).into_iter().for_each(&mut tell);
        }
    }
    verifier
        .end(&store.head().await?)
        .into_iter()
        .for_each(tell);
    Ok(verifier.head())
}

/// Goes along a chain and says what is wrong with it.
///
/// Show it every entry from the first on, with [`see`](Self::see), and then the end.
#[derive(Debug)]
pub struct Verifier {
    last: Head,
    /// What is known of the chain from elsewhere.
    noted: Vec<Head>,
}

/// Something that is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The entry does not say what it said when it was written.
    Changed(u64),
    /// The entry was written after another one than the one before it.
    Moved(u64),
    /// The entries from the first to the second are not there.
    Missing(u64, u64),
    /// The entry is another than the one that was noted.
    Replaced(u64),
    /// The note of the end, beside the entries, is of an earlier end.
    EndMoved(Head),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(seq) => write!(f, "entry {seq} was changed"),
            Self::Moved(seq) => write!(f, "entry {seq} does not follow the one before it"),
            Self::Missing(from, to) if from == to => write!(f, "entry {from} is missing"),
            Self::Missing(from, to) => write!(f, "entries {from} to {to} are missing"),
            Self::Replaced(seq) => write!(f, "entry {seq} is not the one that was noted"),
            Self::EndMoved(head) => {
                write!(
                    f,
                    "the note of the end is of entry {}, which it is not",
                    head.seq
                )
            }
        }
    }
}

impl Verifier {
    /// Begins, with what is known from elsewhere: the end as it is noted beside the entries before
    /// the first is read, and heads that somebody has noted in other places.
    #[must_use]
    pub fn new(noted: Vec<Head>) -> Self {
        Self {
            last: Head::START,
            noted,
        }
    }

    /// Looks at the next entry, in the order of their numbers.
    pub fn see(&mut self, entry: &Entry) -> Vec<Fault> {
        let mut faults = Vec::new();
        let expected = self.last.seq.saturating_add(1);
        if entry.seq > expected {
            faults.push(Fault::Missing(expected, entry.seq - 1));
        } else if entry.previous_hash != self.last.hash {
            faults.push(Fault::Moved(entry.seq));
        }
        if entry.computed() != entry.hash {
            faults.push(Fault::Changed(entry.seq));
        }
        let is_other = |noted: &&Head| noted.seq == entry.seq && noted.hash != entry.hash;
        if self.noted.iter().any(|noted| is_other(&noted)) {
            faults.push(Fault::Replaced(entry.seq));
        }
        self.last = entry.head();
        faults
    }

    /// The end as the entries have it.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.last
    }

    /// Says what is wrong with the end, given how it is noted beside the entries after the last was
    /// read. A server may have appended meanwhile; nothing takes entries away.
    #[must_use]
    pub fn end(&self, now: &Head) -> Vec<Fault> {
        let mut faults = Vec::new();
        let known = self.noted.iter().map(|noted| noted.seq).max().unwrap_or(0);
        if known > self.last.seq {
            faults.push(Fault::Missing(self.last.seq.saturating_add(1), known));
        }
        let is_start = |head: &Head| head.seq == 0 && head.hash == ChainHash::START;
        let same = now.seq == self.last.seq && now.hash == self.last.hash;
        let earlier = now.seq < self.last.seq || (now.seq == self.last.seq && !same);
        if earlier && !(is_start(now) && is_start(&self.last)) {
            faults.push(Fault::EndMoved(*now));
        }
        faults
    }
}

const AT_ONCE: u32 = 500;

#[cfg(test)]
mod tests {
    use arkeep_core::Timestamp;

    use super::*;
    use crate::store::audit::{Actor, Changes, NewEntry, Target};

    fn chain(length: u64) -> Vec<Entry> {
        let mut head = Head::START;
        let mut entries = Vec::new();
        for number in 0..length {
            let says = NewEntry {
                at: Timestamp::UNIX_EPOCH,
                actor: Actor {
                    kind: "server".into(),
                    id: None,
                    name: None,
                },
                action: format!("test.{number}").into(),
                target: Target {
                    kind: "server".into(),
                    id: None,
                },
                result: "ok".into(),
                address: None,
                request_id: None,
                changes: Changes::none(),
            };
            let entry = Entry::after(&head, says);
            head = entry.head();
            entries.push(entry);
        }
        entries
    }

    fn faults(entries: &[Entry], beside: Head, noted: &[Head]) -> Vec<Fault> {
        let mut verifier = Verifier::new([&[beside], noted].concat());
        let mut faults: Vec<_> = entries
            .iter()
            .flat_map(|entry| verifier.see(entry))
            .collect();
        faults.extend(verifier.end(&beside));
        faults
    }

    fn end(entries: &[Entry]) -> Head {
        entries.last().map_or(Head::START, Entry::head)
    }

    /// S12
    #[test]
    fn finds_nothing_wrong_with_a_whole_chain() {
        for length in 0..4 {
            let entries = chain(length);
            assert_eq!(faults(&entries, end(&entries), &[]), []);
        }
    }

    /// S12
    #[test]
    fn finds_what_was_taken_out_wherever_it_was() {
        let whole = chain(5);
        for from in 0..5 {
            for to in from..5 {
                let mut rest = whole.clone();
                rest.drain(from..=to);
                let missing = Fault::Missing(from as u64 + 1, to as u64 + 1);
                assert_eq!(faults(&rest, end(&whole), &[]), [missing]);
            }
        }
    }

    /// S12
    #[test]
    fn finds_what_was_changed_moved_or_put_in() {
        let whole = chain(4);
        let mut changed = whole.clone();
        changed[1].says.result = "forbidden".into();
        let mut rehashed = changed.clone();
        rehashed[1].hash = rehashed[1].computed();
        let mut swapped = whole.clone();
        swapped.swap(1, 2);
        swapped[1].seq = 2;
        swapped[2].seq = 3;
        let mut put_in = whole.clone();
        put_in[1] = Entry::after(&Head::START, whole[1].says.clone());
        put_in[1].seq = 2;

        for (entries, expected) in [
            (changed, vec![Fault::Changed(2)]),
            (rehashed, vec![Fault::Moved(3)]),
            (
                swapped,
                vec![
                    Fault::Moved(2),
                    Fault::Changed(2),
                    Fault::Moved(3),
                    Fault::Changed(3),
                    Fault::Moved(4),
                ],
            ),
            (
                put_in,
                vec![Fault::Moved(2), Fault::Changed(2), Fault::Moved(3)],
            ),
        ] {
            assert_eq!(faults(&entries, end(&whole), &[]), expected);
        }
    }

    /// S12: what was computed anew to its end is found by a head that was noted elsewhere, and by
    /// nothing else.
    #[test]
    fn finds_a_chain_that_was_written_anew_by_a_noted_head() {
        let whole = chain(4);
        let mut anew = chain(2);
        let mut head = end(&anew);
        for entry in &whole[2..] {
            let mut says = entry.says.clone();
            says.result = "forbidden".into();
            anew.push(Entry::after(&head, says));
            head = end(&anew);
        }

        assert_eq!(faults(&anew, head, &[]), []);
        assert_eq!(faults(&anew, head, &[end(&whole)]), [Fault::Replaced(4)]);
        let short = chain(2);
        assert_eq!(faults(&short, end(&short), &[]), []);
        let missing = faults(&short, end(&short), &[end(&whole)]);
        assert_eq!(missing, [Fault::Missing(3, 4)]);
    }

    /// S12
    #[test]
    fn finds_a_note_of_another_end() {
        let entries = chain(3);
        let earlier = entries[1].head();

        assert_eq!(faults(&entries, earlier, &[]), [Fault::EndMoved(earlier)]);
        let none = Head::START;
        assert_eq!(faults(&entries, none, &[]), [Fault::EndMoved(none)]);
    }
}
