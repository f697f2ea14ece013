//! For tests: stores in memory, and what every store must keep.
//!
//! [`MemoryStore`] is a [`UserStore`](crate::UserStore), a [`SessionStore`](crate::SessionStore)
//! and a [`RevocationStore`](crate::RevocationStore) in this process. [`conformance`] says what any
//! implementation of these ports promises: hand it your own store.

pub mod conformance;
mod memory;

pub use memory::MemoryStore;
