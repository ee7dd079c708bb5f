//! The client's side of a flow, in one of the families.

use crate::{icmp, maps};
use mesh_common::{
    abi::{protocol, whole},
    encap::map_ipv4,
    hash, table,
};
use mesh_ebpf::packet::Packet;

/// A client of either family.
pub(crate) trait Client: Copy {
    /// The IP protocol number that an outer header gives to a packet of this family.
    const INNER_PROTOCOL: u8;
    /// The flow's hash under the seed.
    fn hash(&self) -> u64;
    /// Answers a packet that is longer than `mtu` by saying so, if it may not be fragmented or `always`; `None` if that
    /// cannot be said.
    fn tell(packet: Packet, mtu: u16, always: bool) -> Option<()>;
    /// The client's address; IPv4 as an IPv4-mapped address.
    fn address(&self) -> [u8; 16];
    /// The client's port, in the byte order of the wire.
    fn port(&self) -> u16;

    /// The client of a flow that has no ports.
    fn without_port(self) -> Self;

    /// The client as the flow table names it.
    #[inline(always)]
    fn named(&self, key: u64, service: u32) -> table::Client {
        table::Client {
            key,
            service,
            port: self.port().to_ne_bytes(),
            reserved: [0; 2],
            address: self.address(),
        }
    }
}

/// An IPv4 client, in the byte order of the wire.
#[derive(Clone, Copy)]
pub(crate) struct Client4 {
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// An IPv6 client, in the byte order of the wire.
#[derive(Clone, Copy)]
pub(crate) struct Client6 {
    pub(crate) address: [u64; 2],
    pub(crate) port: u16,
}

impl Client for Client4 {
    const INNER_PROTOCOL: u8 = protocol::IPIP;

    #[inline(always)]
    fn hash(&self) -> u64 {
        hash::flow4(maps::seed(), self.address.to_ne_bytes(), self.port.to_ne_bytes())
    }

    #[inline(always)]
    fn tell(packet: Packet, mtu: u16, always: bool) -> Option<()> {
        icmp::tell_ipv4(packet, mtu, always)
    }

    #[inline(always)]
    fn address(&self) -> [u8; 16] {
        map_ipv4(self.address.to_ne_bytes())
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        self.port
    }

    #[inline(always)]
    fn without_port(self) -> Self {
        Self { port: 0, ..self }
    }
}

impl Client for Client6 {
    const INNER_PROTOCOL: u8 = protocol::IPV6;

    #[inline(always)]
    fn hash(&self) -> u64 {
        hash::flow6(maps::seed(), whole(self.address), self.port.to_ne_bytes())
    }

    #[inline(always)]
    fn tell(packet: Packet, mtu: u16, _always: bool) -> Option<()> {
        icmp::tell_ipv6(packet, mtu)
    }

    #[inline(always)]
    fn address(&self) -> [u8; 16] {
        whole(self.address)
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        self.port
    }

    #[inline(always)]
    fn without_port(self) -> Self {
        Self { port: 0, ..self }
    }
}
