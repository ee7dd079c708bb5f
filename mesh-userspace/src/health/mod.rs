//! Whether backends answer: probes, and what their results mean.
//!
//! Invariants: [`Machine`] is pure (time is an argument) and flips only after enough equal results in a row; each
//! key has one task that runs one probe at a time; what did not change in an update is not disturbed by it; a
//! failure of this host (no file descriptor, no port) is never held against a backend.

mod correlated;
mod error;
mod load;
mod machine;
mod measured;
mod outliers;
mod path;
mod probe;
mod prober;
mod task;
#[cfg(test)]
mod tests;
mod turn;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use correlated::{Cause, Correlator, Event, Fact, Incident};
pub use error::ProbeError;
pub use load::{LoadError, MOST_LOAD, load};
pub use machine::{Machine, Rules, State};
pub use outliers::{Ejection, Outliers, Tally};
pub use path::{Path, Paths, remove_rules};
pub use probe::{Answer, Target, once};
pub use prober::Prober;
pub use turn::{Probed, Turn};

use crate::config::ServiceKey;

/// A backend of a service: what is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The service.
    pub service: ServiceKey,
    /// The backend's address.
    pub address: IpAddr,
}

/// What the probes of a backend say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Up, down, or not known yet.
    pub state: State,
    /// When the state began.
    pub since: SystemTime,
    /// The last failure, this host's own included; forgotten once a backend is up and a probe succeeded.
    pub last_error: Option<String>,
    /// How long the last successful probe took when this was published; [`Prober::latencies`] has the present ones.
    pub latency: Option<Duration>,
    /// When it came up after it had been down, or had been added to what is probed.
    pub risen: Option<Instant>,
    /// When the first of the failures in a row was that lead up to now; `None` while probes succeed.
    pub failing: Option<Instant>,
    /// Whether it would be up, had it not gone down so often.
    pub damped: bool,
    /// Why its last answer did not say its load, though it should have.
    pub load_error: Option<LoadError>,
    /// The probes that led to the state; `None`: there were none.
    pub turn: Option<Arc<Turn>>,
}

impl Verdict {
    /// Nothing is known, since `now`.
    #[must_use]
    pub const fn unknown(now: SystemTime) -> Self {
        Self {
            state: State::Unknown,
            since: now,
            last_error: None,
            latency: None,
            risen: None,
            failing: None,
            damped: false,
            load_error: None,
            turn: None,
        }
    }
}

/// What a backend reports of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It serves.
    Well,
    /// It does not, for this reason.
    Failing(String),
}

/// Why a report was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAwaited;
