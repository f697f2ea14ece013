//! The engine against real restics: the one in `PATH`, and each that `ARKEEP_RESTICS` names
//! (written as `PATH` is).

mod backup;
mod bench;
mod probe;
mod restore;
