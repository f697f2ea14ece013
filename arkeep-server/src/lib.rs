//! The reference server: SQL stores, dispatch and the HTTP API.
