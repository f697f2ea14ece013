//! Hooks as real processes: what they get, what they do not get, and how they end.

mod cage;
mod ends;
mod gets;
mod outside;
mod reports;
#[cfg(feature = "signed")]
#[path = "../../examples/sign_a_hook.rs"]
mod sign_a_hook;
mod support;

/// H6
#[cfg(feature = "signed")]
#[test]
fn the_example_of_signing_runs() -> support::Outcome {
    sign_a_hook::main()
}
