//! The agent's end: enrolling, connecting, renewing.
//!
//! [`enroll`] turns a [`JoinToken`](crate::token::JoinToken) into a [`Credential`], once. From then
//! on a [`Connector`] holds the credential and the trusted roots, opens [`Link`]s, and asks for the
//! next credential when two thirds of the present one's life are over. How long to wait before
//! trying again is a pure function, [`Backoff`].
//!
//! Every error here has a text for the machine's owner, which says what to do.

mod backoff;
mod connector;
mod credential;
mod dial;
mod enroll;
mod error;
mod link;
mod verify;

pub use backoff::Backoff;
pub use connector::{Connector, ConnectorParts, Renewal};
pub use credential::{Credential, CredentialError};
pub use enroll::{Enrolled, enroll};
pub use error::{ConnectError, DialError, EnrollError, LinkError, RenewError};
pub use link::{Link, LinkReceiver, LinkSender};
