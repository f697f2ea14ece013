//! What the quickstart and the end-to-end tests share.
