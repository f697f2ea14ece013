//! The real server and the real agent, with real restic, seen from outside.
