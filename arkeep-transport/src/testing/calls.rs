//! Calls for certificates without a network, for fuzzers.

use tonic::Code;

use crate::identity::AgentIdentity;
use crate::server::{PortConfig, PortParts, run_enrollment};

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// The bytes are no request.
    Unreadable,
    /// The number of a gRPC status.
    Refused(i32),
    /// A certificate and what leads up to a root, as DER.
    Certified(Vec<Vec<u8>>),
}

/// Lets a stranger say these bytes to `Enrollment.Enroll`.
pub async fn enroll(parts: PortParts, config: PortConfig, request: &[u8]) -> Answered {
    answered(run_enrollment(parts, config, None, request).await)
}

/// Lets an agent say these bytes to `Enrollment.Renew`.
pub async fn renew(
    parts: PortParts,
    config: PortConfig,
    identity: AgentIdentity,
    request: &[u8],
) -> Answered {
    answered(run_enrollment(parts, config, Some(identity), request).await)
}

fn answered(answer: Option<Result<Vec<Vec<u8>>, tonic::Status>>) -> Answered {
    match answer {
        None => Answered::Unreadable,
        Some(Ok(chain)) => Answered::Certified(chain),
        Some(Err(status)) => Answered::Refused(Code::into(status.code())),
    }
}
