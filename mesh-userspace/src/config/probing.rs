//! `[health]`: how this host probes, whatever it probes.

use std::time::Duration;

use crate::config::choice::choices;

choices! {
    /// What becomes of backends that begin to fail together.
    #[derive(Default)]
    OnCorrelated {
        /// They are down, as their probes say.
        #[default]
        Follow = "follow",
        /// They stay up for a while.
        Hold = "hold",
    }
}

/// `[health.correlated]`: which failures have one cause, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlated {
    /// What becomes of the backends.
    pub action: OnCorrelated,
    /// Per cent of those with something in common that have to fail; at most 100.
    pub share: u8,
    /// How many have to fail; at least 2.
    pub least: usize,
    /// How far apart their first failures may be.
    pub window: Duration,
    /// How long they are held at most.
    pub hold_for: Duration,
}

impl Default for Correlated {
    fn default() -> Self {
        Self {
            action: OnCorrelated::Follow,
            share: 60,
            least: 3,
            window: Duration::from_secs(5),
            hold_for: Duration::from_secs(60),
        }
    }
}

/// `[health]`: how this host probes. A change needs a restart of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    /// Most probes under way at a time; each has a socket or a process.
    pub at_once: u32,
    /// Of sockets that ask a VIP: the firewall mark by which policy routing knows them.
    pub mark: u32,
    /// `[health.correlated]`.
    pub correlated: Correlated,
}

impl Default for Probing {
    fn default() -> Self {
        // Usual software has its marks in other bits.
        Self { at_once: 512, mark: 0x6d, correlated: Correlated::default() }
    }
}
