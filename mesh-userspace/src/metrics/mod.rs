//! Metrics in the OpenMetrics text format, over HTTP.
//!
//! Invariant: nothing is kept here; every scrape renders one [`Snapshot`] taken by the agent's loop, so that
//! the numbers of one scrape belong together. Names begin with `meshlb_`, carry base units, and counters end in
//! `_total`.

mod collector;
mod server;
mod snapshot;

pub use collector::render;
pub(crate) use collector::{counter, encode};
pub use server::{CONTENT_TYPE, MetricsError, bind, serve};
pub use snapshot::{Program, Reloads, Snapshot};
