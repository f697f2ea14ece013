//! Judge a hook; run an approved one in a sandbox.
