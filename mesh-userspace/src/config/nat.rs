//! `[service.nat]`: from where translated packets reach the backends.

use std::net::IpAddr;

use super::Ports;

/// `[service.nat]`: what packets are translated to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// The addresses that they come from.
    pub source: NatSource,
    /// The ports that they come from; without any meaning where the client's own address is kept.
    pub ports: Ports,
    /// The backends' port; `None`: the one that clients talk to.
    pub port: Option<u16>,
}

/// The addresses that translated packets come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NatSource {
    /// The host's own on the way to the backend.
    #[default]
    Auto,
    /// The client's: backends answer by way of this host.
    Keep,
    /// These, of which this host gets the answers; at least one.
    Addresses(Vec<IpAddr>),
}

impl Nat {
    /// Ports of the host's own addresses: below those that Linux gives to its own connections
    /// (`net.ipv4.ip_local_port_range`, 32768 to 60999).
    pub const SHARED_PORTS: Ports = Ports::between(1024, 32_767);

    /// Ports of addresses that nobody else uses.
    pub const OWN_PORTS: Ports = Ports::between(1024, u16::MAX);

    /// Most addresses of each family.
    pub const SOURCES: usize = mesh_common::connection::SOURCES;
}

impl Default for Nat {
    fn default() -> Self {
        Self { source: NatSource::default(), ports: Self::SHARED_PORTS, port: None }
    }
}
