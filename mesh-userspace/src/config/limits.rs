//! `[limits]`: how large the maps are made. Memory is bounded by these numbers alone.

/// `[limits]`: sizes of the maps, each at least 1. A change needs a restart of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most services.
    pub services: u32,
    /// Most backends, over all services.
    pub backends: u32,
    /// Most slots: the sum of the services' table sizes.
    pub slots: u32,
    /// Most rules: the blocks of ports, over all prefixes, that make up the services wider than one port of one address.
    pub rules: u32,
    /// Recorded flows that the table has good room for, both families together.
    pub flows: u32,
    /// Most connections of services whose packets are translated.
    pub connections: u32,
    /// Most prefixes of all guards together.
    pub prefixes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: 1024,
            backends: 4096,
            slots: 1 << 20,
            rules: 1 << 16,
            flows: 1 << 18,
            connections: 1 << 17,
            prefixes: 1 << 14,
        }
    }
}
