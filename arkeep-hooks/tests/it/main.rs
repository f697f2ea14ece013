//! Hooks as real processes: what they get, what they do not get, and how they end.

mod cage;
mod ends;
mod gets;
mod reports;
mod support;
