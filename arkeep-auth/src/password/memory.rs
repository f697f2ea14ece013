//! The memory that hashes are made in.

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// What one thread hashes in, hash after hash.
///
/// An allocator that is given back so much memory and asked for it again keeps several times of
/// it, so that a bound on hashes would be none on memory.
///
/// # Security
///
/// What a hash leaves here is the way from a password to its hash, and neither of them. The next
/// hash writes over it.
#[derive(Default)]
pub(super) struct Memory {
    blocks: Vec<Block>,
}

impl Memory {
    /// Argon2id of this password; nothing when the memory cannot be had, or the salt or the length
    /// of the output is out of Argon2's bounds.
    pub(super) fn hash(
        &mut self,
        password: &[u8],
        salt: &[u8],
        params: Params,
    ) -> Option<phc::Output> {
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let mut output = [0; phc::Output::MAX_LENGTH];
        let output = output.get_mut(..length)?;
        let blocks = self.of(params.block_count())?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(password, salt, output, blocks)
            .ok()?;
        phc::Output::new(output).ok()
    }

    fn of(&mut self, count: usize) -> Option<&mut [Block]> {
        // One dear hash, stored when hashes were dearer, does not make all that follow so.
        if self.blocks.len() < count || self.blocks.len() / 2 > count {
            self.blocks = Vec::new();
            self.blocks.try_reserve_exact(count).ok()?;
            self.blocks.resize(count, Block::new());
        }
        self.blocks.get_mut(..count)
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher as _;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    const SALT: [u8; 16] = [3; 16];

    fn params(memory_kib: u32) -> Result<Params, argon2::Error> {
        Params::new(memory_kib, 1, 1, Some(32))
    }

    /// A7: in memory that was used before, the hash is the same.
    #[test]
    fn gives_what_argon2_gives_in_fresh_memory() -> TestResult {
        let mut memory = Memory::default();

        for (password, kib) in [
            ("one", 64),
            ("two", 64),
            ("three", 32),
            ("four", 100),
            ("", 8),
        ] {
            let fresh = Argon2::new(Algorithm::Argon2id, Version::V0x13, params(kib)?)
                .hash_password_with_salt(password.as_bytes(), &SALT)?;

            let hashed = memory.hash(password.as_bytes(), &SALT, params(kib)?);

            assert_eq!(hashed, fresh.hash, "{password} {kib}");
        }
        Ok(())
    }

    /// A8: a storm takes the memory of one hash on each thread.
    #[test]
    fn is_had_once_for_hashes_of_one_cost() -> TestResult {
        let mut memory = Memory::default();
        memory.hash(b"password", &SALT, params(64)?);
        let place = memory.blocks.as_ptr();

        for _ in 0..10 {
            memory.hash(b"password", &SALT, params(64)?);
        }

        assert_eq!(memory.blocks.as_ptr(), place);
        assert_eq!(memory.blocks.len(), 64);
        Ok(())
    }

    /// A8
    #[test]
    fn is_given_back_after_a_dearer_hash() -> TestResult {
        let mut memory = Memory::default();
        memory.hash(b"password", &SALT, params(1024)?);

        memory.hash(b"password", &SALT, params(64)?);

        assert_eq!(memory.blocks.capacity(), 64);
        Ok(())
    }

    #[test]
    fn refuses_a_salt_that_argon2_does_not_take() -> TestResult {
        assert!(
            Memory::default()
                .hash(b"password", b"short", params(64)?)
                .is_none()
        );
        Ok(())
    }
}
