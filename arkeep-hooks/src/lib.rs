#![doc = include_str!("../README.md")]

pub mod cancel;
mod chars;
mod combine;
pub mod hook;
pub mod judge;
pub mod output;
pub mod policy;
#[cfg(all(feature = "process", unix))]
pub mod process;
pub mod redact;
pub mod refusal;
pub mod run;
mod script;
#[cfg(feature = "signed")]
pub mod signed;
mod underline;

pub use cancel::CancelSignal;
pub use combine::{AllOf, AnyOf};
pub use hook::{Command, HookSet, HookSpec, Phase, RawHook, RawHookSet};
pub use policy::{AllowList, Any, ApprovedHook, HookPolicy, Off, Review};
#[cfg(all(feature = "process", unix))]
pub use process::ProcessRunner;
pub use redact::Secrets;
pub use refusal::{HookRefusal, Rule};
pub use run::{HookContext, HookReport, HookRunner, HookState, RunError};
pub use script::ShellScript;
#[cfg(feature = "signed")]
pub use signed::Signed;
