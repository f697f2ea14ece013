//! Assignments and reports as bytes, for a store that outlives the process.
//!
//! An agent writes what it accepted and what it has to report to disk before it acts. It keeps the
//! same protobuf messages that travel, so that an agent can be updated while its outbox is full:
//! fields may be added to the messages, none is ever renamed or given another meaning.
//!
//! # Example
//!
//! ```
//! # use arkeep_core::job::{Fence, JobReport, ReportBody};
//! # use arkeep_core::{JobId, SystemEntropy, Timestamp};
//! use arkeep_transport::wire;
//! # let now = Timestamp::from_unix_millis(1_700_000_000_000);
//! # let job = JobId::mint(now, &SystemEntropy);
//! # let report = JobReport { job, attempt: 1, fence: Fence(3), sequence: 1, at: now, body: ReportBody::Started };
//!
//! let bytes = wire::encode_report(&report)?;
//! assert_eq!(wire::decode_report(&bytes)?, report);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use prost::Message;

use arkeep_core::SecretSlice;
use arkeep_core::job::{Assignment, JobReport};

use crate::convert::Invalid;
use crate::proto;

/// An assignment as bytes. They hold the credentials in the clear: seal them before they touch a
/// disk.
///
/// # Errors
///
/// [`EncodeError`] when the assignment is too large to travel, or of a kind that this version of the
/// protocol has no words for.
pub fn encode_assignment(assignment: &Assignment) -> Result<SecretSlice<u8>, EncodeError> {
    let message = proto::Assignment::try_from(assignment).map_err(EncodeError::unknown)?;
    encode(&message).map(SecretSlice::from)
}

/// The assignment that [`encode_assignment`] wrote.
///
/// # Errors
///
/// [`DecodeError`] when the bytes were not written by it, or were altered.
pub fn decode_assignment(bytes: &[u8]) -> Result<Assignment, DecodeError> {
    decode::<proto::Assignment>(bytes)?
        .try_into()
        .map_err(|Invalid(field)| DecodeError::Field(field))
}

/// A report as bytes.
///
/// # Errors
///
/// As for [`encode_assignment`].
pub fn encode_report(report: &JobReport) -> Result<Vec<u8>, EncodeError> {
    encode(&proto::JobReport::try_from(report).map_err(EncodeError::unknown)?)
}

/// The report that [`encode_report`] wrote.
///
/// # Errors
///
/// As for [`decode_assignment`].
pub fn decode_report(bytes: &[u8]) -> Result<JobReport, DecodeError> {
    decode::<proto::JobReport>(bytes)?
        .try_into()
        .map_err(|Invalid(field)| DecodeError::Field(field))
}

/// Something cannot be written as a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// It is heavier than a message may be. Make it smaller: fewer sources, shorter excludes.
    #[error("the message would weigh {0} bytes, and 4 MiB is the most")]
    TooLarge(usize),

    /// This version of the protocol has no words for it. Update the side that speaks.
    #[error("this version of the protocol has no words for `{0}`")]
    Unknown(&'static str),
}

impl EncodeError {
    pub(crate) const fn unknown(Invalid(field): Invalid) -> Self {
        Self::Unknown(field)
    }
}

/// Bytes are not the message that they should be.
///
/// No part of them is in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They are not a protobuf message of that kind, or are too many.
    #[error("not a message of this protocol")]
    Malformed,

    /// The message lacks this field, or holds something there that cannot be.
    #[error("the field `{0}` is missing, out of bounds or not understood")]
    Field(&'static str),
}

fn encode(message: &impl Message) -> Result<Vec<u8>, EncodeError> {
    check_weight(message)?;
    // Allocates `weight` bytes once: a buffer that grows would leave secrets behind.
    Ok(message.encode_to_vec())
}

pub(crate) fn check_weight(message: &impl Message) -> Result<(), EncodeError> {
    match message.encoded_len() {
        ..=proto::MESSAGE_LIMIT => Ok(()),
        weight => Err(EncodeError::TooLarge(weight)),
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    if bytes.len() > proto::MESSAGE_LIMIT {
        return Err(DecodeError::Malformed);
    }
    M::decode(bytes).map_err(|_| DecodeError::Malformed)
}
