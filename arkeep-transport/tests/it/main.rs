//! What the crate promises, asked from outside.

mod attacks;
mod authorities;
mod authority;
mod enrolling;
mod generated;
mod rates;
mod raw;
mod rotation;
mod sessions;
mod stand;
mod storms;
mod wire;
