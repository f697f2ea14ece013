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
