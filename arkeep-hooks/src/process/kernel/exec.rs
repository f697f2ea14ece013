//! Becoming a program.

use std::ffi::{CString, c_char};
use std::fmt;
use std::io;

/// `argv` and `envp` in the shape that `execve` takes.
pub(in crate::process) struct ExecVectors {
    argv: PointerList,
    envp: PointerList,
}

struct PointerList {
    /// Keeps alive what `pointers` points to.
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead into `strings`, which are owned by the same value and never changed.
unsafe impl Send for PointerList {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for PointerList {}

impl ExecVectors {
    /// Takes the program as the first of `argv`.
    pub(in crate::process) fn new(argv: Vec<CString>, envp: Vec<CString>) -> Self {
        Self {
            argv: PointerList::new(argv),
            envp: PointerList::new(envp),
        }
    }

    /// Becomes the program, or says why not.
    ///
    /// `execve` and not `execvp`: the latter hands a file without `#!` to a shell.
    pub(in crate::process) fn execute(&self) -> io::Error {
        let Some(program) = self.argv.strings.first() else {
            return io::Error::from_raw_os_error(libc::ENOENT);
        };
        // SAFETY: `program` ends with NUL, and both lists end with a null pointer.
        unsafe {
            libc::execve(
                program.as_ptr(),
                self.argv.pointers.as_ptr(),
                self.envp.pointers.as_ptr(),
            )
        };
        io::Error::last_os_error()
    }
}

impl PointerList {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect();
        Self { strings, pointers }
    }
}

impl fmt::Debug for ExecVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.argv.strings).finish()
    }
}
