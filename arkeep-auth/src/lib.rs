//! Passwords, tokens, sessions, revocation and roles.
