//! Secrets that do not leak by accident.
//!
//! The types are those of the `secrecy` crate: they zero their memory on drop, print `[REDACTED]`,
//! and have neither `Serialize` nor `Display`. They are named here so that every crate of ours, and
//! a product that embeds one, speaks of the same type.
//!
//! ```compile_fail
//! # use arkeep_core::SecretString;
//! let password = SecretString::from("hunter2");
//! println!("{password}"); // a secret has no Display
//! ```
//!
//! ```compile_fail
//! # use arkeep_core::SecretString;
//! fn send(value: impl serde::Serialize) {}
//! send(SecretString::from("hunter2")); // a secret has no Serialize
//! ```

pub use secrecy::{ExposeSecret, SecretSlice, SecretString};

#[cfg(test)]
mod tests {
    use super::SecretString;

    /// V8
    #[test]
    fn prints_redacted() {
        let printed = format!("{:?}", SecretString::from("hunter2"));

        assert!(printed.contains("[REDACTED]"));
        assert!(!printed.contains("hunter2"));
    }
}
