//! `[health]`: how this host probes, whatever it probes.

/// `[health]`: how this host probes. A change needs a restart of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    /// Most probes under way at a time; each has a socket or a process.
    pub at_once: u32,
}

impl Default for Probing {
    fn default() -> Self {
        Self { at_once: 512 }
    }
}
