//! Wiping what a function leaves behind on the stack.

use std::hint::black_box;

/// Runs `work` and then overwrites the part of the stack that it used.
///
/// What it returns must hold no secret itself, only lead to one, as a box does.
pub(crate) fn leaving_nothing<T>(work: impl FnOnce() -> T) -> T {
    let result = apart(work);
    overwrite();
    result
}

/// In a frame of its own, which lies where [`overwrite`] has its own afterwards.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn overwrite() {
    let mut frame = [0u8; DEPTH];
    // The compiler may not know that nobody reads it.
    black_box(&mut frame);
}

/// The cipher leaves key schedules down to between 4 and 6 KiB below its caller.
const DEPTH: usize = 8 << 10;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;
    use std::hint::black_box;
    use std::os::unix::fs::FileExt as _;

    type TestResult = Result<(), std::io::Error>;

    const PLANTED: usize = 6 << 10;
    /// What a look at the memory does not itself write over: the deepest part.
    const SEEN: usize = 1 << 10;

    #[inline(never)]
    fn plant() -> usize {
        let mut frame = [0xa5_u8; PLANTED];
        black_box(&mut frame).as_ptr().addr()
    }

    #[inline(never)]
    fn is_still_there(memory: &File, address: usize) -> Result<bool, std::io::Error> {
        let mut found = [0; SEEN];
        memory.read_exact_at(&mut found, address as u64)?;
        Ok(found == [0xa5; SEEN])
    }

    /// V8
    #[test]
    fn what_the_cipher_leaves_on_the_stack_is_overwritten() -> TestResult {
        let memory = File::open("/proc/self/mem")?;

        let left = plant();
        assert!(is_still_there(&memory, left)?, "the test would see it");
        let left = super::leaving_nothing(plant);
        assert!(!is_still_there(&memory, left)?);
        Ok(())
    }
}
