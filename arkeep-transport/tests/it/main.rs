//! What the crate promises, asked from outside.

mod generated;
