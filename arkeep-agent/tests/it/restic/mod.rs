//! The engine against real restics: the one in `PATH`, and each that `ARKEEP_RESTICS` names
//! (written as `PATH` is).

mod backends;
mod backup;
mod bench;
mod disks;
mod impostor;
mod probe;
mod restore;
mod run;
mod servers;
mod upkeep;
