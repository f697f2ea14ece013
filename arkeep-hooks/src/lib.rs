#![doc = include_str!("../README.md")]

pub mod cancel;
mod chars;
pub mod hook;
pub mod judge;
pub mod output;
pub mod policy;
#[cfg(all(feature = "process", target_os = "linux"))]
pub mod process;
pub mod redact;
pub mod refusal;
pub mod run;
mod script;
#[cfg(feature = "signed")]
pub mod signed;

pub use cancel::CancelSignal;
pub use hook::{Command, HookSet, HookSpec, Phase, RawHook, RawHookSet};
pub use policy::{AllowList, Any, ApprovedHook, HookPolicy, Off, Review};
#[cfg(all(feature = "process", target_os = "linux"))]
pub use process::ProcessRunner;
pub use redact::Secrets;
pub use refusal::{HookRefusal, Rule};
pub use run::{HookContext, HookReport, HookRunner, HookState, RunError};
pub use script::ShellScript;
#[cfg(feature = "signed")]
pub use signed::Signed;
