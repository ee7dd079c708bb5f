//! `[service.performance]`: shares that follow how backends do.

use super::choice::choices;

choices! {
    /// What shares follow.
    Measure {
        /// How long probes take.
        Latency = "latency",
        /// What backends say of their load.
        Load = "load",
        /// Both: the smaller of the two shares.
        Both = "both",
    }
}

/// `[service.performance]`: what shares follow, and how far and fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Performance {
    /// What they follow.
    pub by: Measure,
    /// The least that is left of a backend's weight: percent.
    pub floor: u8,
    /// The most slots that it moves: percent of the table in a minute.
    pub moved: u8,
}

impl Performance {
    /// The default of [`Self::floor`].
    pub const FLOOR: u8 = 20;
    /// The default of [`Self::moved`].
    pub const MOVED: u8 = 5;
}

impl Measure {
    /// Whether latencies count.
    #[must_use]
    pub const fn counts_latency(self) -> bool {
        matches!(self, Self::Latency | Self::Both)
    }

    /// Whether loads count.
    #[must_use]
    pub const fn counts_load(self) -> bool {
        matches!(self, Self::Load | Self::Both)
    }
}
