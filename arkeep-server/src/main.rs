//! The program `arkeep-server`.

fn main() {}
