//! What a signature says, byte for byte.
//!
//! Numbers are big-endian; a field is its length in four bytes and then its bytes. So no two lists
//! of hooks have the same encoding, and no signature made for something else fits one:
//!
//! ```text
//! field "arkeep.io hooks v1"   field agent   field policy
//! u64 sequence   i64 not before   i64 not after       (milliseconds since 1970)
//! u32 number of hooks, and for each, in the order before, after, on_failure:
//!     field phase   field name   u64 timeout in seconds
//!     u8 1   u32 number of arguments   field argument …      (exec)
//!     u8 2   field canonical text                            (shell)
//! ```
//!
//! On the wire a signature is `akh1.` and, in URL-safe base64, the sequence, both times and the 64
//! bytes of Ed25519. The rest of the statement is known to whoever checks it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest as hash};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::hook::{Command, HookSet, Phase};

/// What is said about a list of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The agent that may run them.
    pub agent: &'a str,
    /// The backup policy that they belong to.
    pub policy: &'a str,
    /// Higher than that of every list signed for this policy before.
    pub sequence: u64,
    /// The first moment at which they may run, in milliseconds since 1970.
    pub not_before_millis: i64,
    /// The last.
    pub not_after_millis: i64,
}

/// A signature as it comes over the wire, with the numbers that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) sequence: u64,
    not_before_millis: i64,
    not_after_millis: i64,
    pub(super) bytes: [u8; 64],
}

impl Signature {
    pub(super) fn of(statement: &Statement<'_>, bytes: [u8; 64]) -> Self {
        Self {
            sequence: statement.sequence,
            not_before_millis: statement.not_before_millis,
            not_after_millis: statement.not_after_millis,
            bytes,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (sequence, rest) = bytes.split_first_chunk()?;
        let (not_before, rest) = rest.split_first_chunk()?;
        let (not_after, rest) = rest.split_first_chunk()?;
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            not_before_millis: i64::from_be_bytes(*not_before),
            not_after_millis: i64::from_be_bytes(*not_after),
            bytes: rest.try_into().ok()?,
        })
    }

    /// What it should have been made over.
    pub(super) fn statement<'a>(&self, agent: &'a str, policy: &'a str) -> Statement<'a> {
        Statement {
            agent,
            policy,
            sequence: self.sequence,
            not_before_millis: self.not_before_millis,
            not_after_millis: self.not_after_millis,
        }
    }

    pub(super) fn is_valid_at(&self, now_millis: i64) -> bool {
        (self.not_before_millis..=self.not_after_millis).contains(&now_millis)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(88);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.not_before_millis.to_be_bytes());
        bytes.extend(self.not_after_millis.to_be_bytes());
        bytes.extend(self.bytes);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The bytes that are signed.
pub(super) fn encode(hooks: &HookSet, statement: &Statement<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, DOMAIN);
    field(&mut out, statement.agent);
    field(&mut out, statement.policy);
    out.extend(statement.sequence.to_be_bytes());
    out.extend(statement.not_before_millis.to_be_bytes());
    out.extend(statement.not_after_millis.to_be_bytes());
    count(
        &mut out,
        Phase::ALL
            .iter()
            .map(|phase| hooks.phase(*phase).len())
            .sum(),
    );
    for phase in Phase::ALL {
        for hook in hooks.phase(phase) {
            field(&mut out, phase.name());
            field(&mut out, hook.name());
            out.extend(hook.timeout().as_secs().to_be_bytes());
            match hook.command() {
                Command::Exec(argv) => {
                    out.push(1);
                    count(&mut out, argv.len());
                    argv.iter().for_each(|argument| field(&mut out, argument));
                }
                Command::Shell(script) => {
                    out.push(2);
                    field(&mut out, &script.to_string());
                }
            }
        }
    }
    out
}

/// Tells one message from another where a sequence number is used twice.
pub(super) fn digest(message: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash(&SHA256, message).as_ref());
    bytes
}

fn field(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Saturates rather than wraps; a list that long was refused long before.
fn count(out: &mut Vec<u8>, number: usize) {
    out.extend(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

const DOMAIN: &str = "arkeep.io hooks v1";
const PREFIX: &str = "akh1.";
