//! The reference agent: restic engine, executor, outbox and connection loop.
