//! The place that a sealed secret belongs to.

/// Where a secret is stored, so that it opens there and nowhere else.
///
/// A sealed secret is authenticated together with its binding. Somebody who can write to the
/// database but has no key can still copy a blob from one row to another; with the binding, the
/// copy does not open.
///
/// Use the names of the schema and the primary key of the row, which must be known before the
/// secret is sealed. A row that changes its key needs its secrets sealed again.
///
/// ```
/// use arkeep_vault::Binding;
///
/// let here = Binding::new("destinations", "credentials", "018f3c5e");
/// let there = Binding::new("destinations", "credentials", "018f3c5f");
///
/// assert_ne!(here, there);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    domain: &'static str,
    table: &'static str,
    column: &'static str,
    record: Vec<u8>,
}

impl Binding {
    /// Names one column of one row, in the domain `"arkeep"`.
    #[must_use]
    pub fn new(table: &'static str, column: &'static str, record: impl AsRef<[u8]>) -> Self {
        Self {
            domain: "arkeep",
            table,
            column,
            record: record.as_ref().to_owned(),
        }
    }

    /// Moves the binding to another domain.
    ///
    /// Two programs, or two databases of one program, that share a key ring each take a domain of
    /// their own; the secrets of one then do not open in the other.
    #[must_use]
    pub fn in_domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    /// What the cipher authenticates beside the secret: every part with its length before it, then
    /// the header of the blob.
    ///
    /// The lengths are what keeps `("ab", "c")` and `("a", "bc")` apart.
    pub(crate) fn associated_data(&self, header: &[u8]) -> Vec<u8> {
        let parts = [
            self.domain.as_bytes(),
            self.table.as_bytes(),
            self.column.as_bytes(),
            &self.record,
        ];
        let mut data = Vec::with_capacity(USUAL);
        for part in parts {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part);
        }
        data.extend_from_slice(header);
        data
    }
}

/// Room for the names of a schema and a UUID.
const USUAL: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    mod associated_data {
        use super::*;

        /// V2
        #[test]
        fn puts_the_length_before_each_part_and_the_header_last() {
            let binding = Binding::new("ta", "c", [7, 8, 9]).in_domain("dom");

            let data = binding.associated_data(&[0xaa, 0xbb]);

            let expected: &[u8] = b"\0\0\0\0\0\0\0\x03dom\0\0\0\0\0\0\0\x02ta\
                \0\0\0\0\0\0\0\x01c\0\0\0\0\0\0\0\x03\x07\x08\x09\xaa\xbb";
            assert_eq!(data, expected);
        }

        /// V2
        #[test]
        fn differs_when_a_byte_moves_from_one_part_to_the_next() {
            let one = Binding::new("ab", "c", "d");
            let other = Binding::new("a", "bc", "d");

            assert_ne!(one.associated_data(&[]), other.associated_data(&[]));
        }
    }
}
