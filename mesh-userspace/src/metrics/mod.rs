//! Metrics in the Prometheus text format.
//!
//! Invariant: nothing is kept here; every scrape renders one [`Snapshot`] taken by the agent's loop, so that
//! the numbers of one scrape belong together.

mod snapshot;

pub use snapshot::{Reloads, Snapshot};
