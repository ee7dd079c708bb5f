//! The API: HTTP with JSON bodies on a unix socket, the one thing the command line talks to.
//!
//! Invariant: nothing here owns state of the agent; every answer comes from the agent's loop, within a bounded
//! time, over a bounded number of connections.

pub mod client;
mod client_error;
pub(crate) mod explain;
pub(crate) mod failure;
pub mod handle;
pub(crate) mod listener;
pub(crate) mod probes;
pub mod server;
pub mod socket;
mod trace;
pub mod types;

pub use client::{Client, Trace};
pub use client_error::ClientError;
pub use handle::{AgentHandle, Readiness, Timeouts};
pub use server::serve;
pub use socket::{ApiSocket, SocketError};

/// The most flows one answer lists.
pub const MAX_FLOWS: usize = 100_000;

/// Events listed when nobody says how many.
pub const DEFAULT_EVENTS: usize = 100;

/// Bytes of the longest packet that is explained: what a line of a request has room for.
pub const LONGEST_PACKET: usize = 16_384;

/// Flows listed when nobody says how many.
pub const DEFAULT_FLOWS: usize = 100;

#[cfg(test)]
pub(crate) mod tests;
