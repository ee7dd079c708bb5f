//! Backends come and go as sources say, under traffic that loses nothing while its backends live.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

#[path = "discovery/dns.rs"]
mod dns;
#[path = "discovery/file.rs"]
mod file;
#[path = "discovery/kubernetes.rs"]
mod kubernetes;
#[path = "discovery/stage.rs"]
mod stage;
