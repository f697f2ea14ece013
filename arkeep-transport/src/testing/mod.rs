//! For tests: the suite that every enrolment store passes. Its memory implementation is
//! [`MemoryEnrollments`](crate::enrollment::MemoryEnrollments).

pub mod enrollment;
