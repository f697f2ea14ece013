//! Named places where a test kills the program.
//!
//! With the feature `failpoints` each is a point of the crate `fail`, beside those of
//! `arkeep-vault`, and the environment variable `ARKEEP_FAILPOINT` names the one at which the
//! process kills itself with SIGKILL: `name`, or `name:3` for the third time. Without the feature
//! there is nothing of it in the program.

/// Marks a place.
#[inline]
pub(crate) fn hit(name: &'static str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Does what `ARKEEP_FAILPOINT` says from now on.
#[cfg(feature = "failpoints")]
pub(crate) fn arm() {
    use std::sync::atomic::{AtomicU32, Ordering};

    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of the tests, not configuration"
    )]
    let Ok(text) = std::env::var("ARKEEP_FAILPOINT") else {
        return;
    };
    let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
    let times = AtomicU32::new(times.parse().unwrap_or(1));
    // A point that cannot be set up is one that the test does not come to, and says so.
    let _ = fail::cfg_callback(name, move || {
        if times.fetch_sub(1, Ordering::SeqCst) == 1 {
            // No destructor and no handler tidies up what a real death would leave.
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            loop {
                std::thread::park();
            }
        }
    });
}
