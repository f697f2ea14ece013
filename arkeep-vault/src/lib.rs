//! Seal and open credentials; key ring; rotation.
