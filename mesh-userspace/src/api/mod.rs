//! The API: HTTP with JSON bodies on a unix socket, the one thing the command line talks to.

pub mod types;
