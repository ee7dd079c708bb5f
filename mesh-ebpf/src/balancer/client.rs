//! The client's side of a flow, in one of the families.

use crate::maps;
use mesh_common::{abi::protocol, encap::map_ipv4, hash, table};

/// A client of either family.
pub(crate) trait Client: Copy {
    /// The IP protocol number that an outer header gives to a packet of this family.
    const INNER_PROTOCOL: u8;
    /// The flow's hash under the seed.
    fn hash(&self) -> u64;
    /// The client as the flow table names it.
    fn named(&self, tag: u64, service: u32) -> table::Client;
}

/// An IPv4 client.
#[derive(Clone, Copy)]
pub(crate) struct Client4 {
    pub(crate) address: [u8; 4],
    pub(crate) port: [u8; 2],
}

/// An IPv6 client.
#[derive(Clone, Copy)]
pub(crate) struct Client6 {
    pub(crate) address: [u8; 16],
    pub(crate) port: [u8; 2],
}

impl Client for Client4 {
    const INNER_PROTOCOL: u8 = protocol::IPIP;

    #[inline(always)]
    fn hash(&self) -> u64 {
        hash::flow4(maps::seed(), self.address, self.port)
    }

    #[inline(always)]
    fn named(&self, tag: u64, service: u32) -> table::Client {
        table::Client { tag, service, port: self.port, reserved: [0; 2], address: map_ipv4(self.address) }
    }
}

impl Client for Client6 {
    const INNER_PROTOCOL: u8 = protocol::IPV6;

    #[inline(always)]
    fn hash(&self) -> u64 {
        hash::flow6(maps::seed(), self.address, self.port)
    }

    #[inline(always)]
    fn named(&self, tag: u64, service: u32) -> table::Client {
        table::Client { tag, service, port: self.port, reserved: [0; 2], address: self.address }
    }
}
