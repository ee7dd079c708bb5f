//! `[health]`: how this host probes, whatever it probes.

/// `[health]`: how this host probes. A change needs a restart of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    /// Most probes under way at a time; each has a socket or a process.
    pub at_once: u32,
    /// Of sockets that ask a VIP: the firewall mark by which policy routing knows them.
    pub mark: u32,
}

impl Default for Probing {
    fn default() -> Self {
        // Usual software has its marks in other bits.
        Self { at_once: 512, mark: 0x6d }
    }
}
