//! `[service.health.passive]`: backends that fail clients.

use std::time::Duration;

/// When a backend that fails clients gets no new connections, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passive {
    /// How much of a backend's new connections may not fail: percent, at least 1.
    pub failed: u8,
    /// Fewer new connections than this say nothing; at least 1.
    pub least: u32,
    /// Those count that were opened within this time.
    pub window: Duration,
    /// How long it gets none the first time; each time after that, twice as long.
    pub hold: Duration,
    /// The longest; after so long without, the first time begins again. At least `hold`.
    pub longest: Duration,
    /// How many of the backends may get none at a time: percent.
    pub share: u8,
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            failed: 50,
            least: 5,
            window: Duration::from_secs(30),
            hold: Duration::from_secs(30),
            longest: Duration::from_secs(600),
            share: 50,
        }
    }
}
