//! Named places where a test kills the agent.
//!
//! With the feature `failpoints`, the environment variable `ARKEEP_FAILPOINT` names one place, and
//! the process kills itself with SIGKILL when it gets there: `name`, or `name:3` for the third
//! time. Without the feature there is nothing of it in the program.

/// Marks a place.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn hit(_name: &str) {}

/// Marks a place.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();

    let wanted = WANTED.get_or_init(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "a switch of the tests, not configuration"
        )]
        let text = std::env::var("ARKEEP_FAILPOINT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU32::new(times.parse().unwrap_or(1))))
    });
    if let Some((wanted, times)) = wanted
        && wanted == name
        && times.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // SIGKILL, so that no destructor and no handler tidies up what a real death would leave.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
