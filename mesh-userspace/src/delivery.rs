//! How packets of a service reach its backends: what the configuration says about it in several places. Pure.

use crate::config::{Forward, OuterSource, Oversized, Service};
use mesh_common::{
    abi::forward,
    encap::{GENEVE_PORT, GUE_PORT, MOST_SPREAD_IPV4, MOST_SPREAD_IPV6},
};
use std::net::IpAddr;

/// How packets of a service reach its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What is done to packets.
    pub forward: Forward,
    /// The UDP port at which backends unwrap, unless it is the usual one.
    pub tunnel_port: Option<u16>,
    /// The port at the backend, if packets are translated and it is another than theirs.
    pub port: Option<u16>,
    /// What becomes of IPv4 packets that are too long and may be fragmented.
    pub oversized: Oversized,
    /// Where outer headers come from.
    pub outer_source: OuterSource,
}

/// The outer source of packets to a backend: an address, of which some of the lowest bits differ between flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address, or its prefix with zeroes behind it.
    pub prefix: IpAddr,
    /// How many bits differ.
    pub spread: u8,
}

impl Delivery {
    /// As services are that say nothing but how to forward.
    #[must_use]
    pub const fn plain(forward: Forward) -> Self {
        let outer_source = OuterSource { v4: None, v6: None };
        Self { forward, tunnel_port: None, port: None, oversized: Oversized::Drop, outer_source }
    }

    /// As a service has it, with the outer sources of the agent.
    #[must_use]
    pub fn of(service: &Service, outer_source: OuterSource) -> Self {
        let Service { forward, tunnel_port, oversized, .. } = *service;
        let port = service.nat.as_ref().and_then(|nat| nat.port);
        Self { forward, tunnel_port, port, oversized, outer_source }
    }

    /// The UDP port at which backends unwrap; `None` where there is no UDP.
    #[must_use]
    pub fn tunnel_port(&self) -> Option<u16> {
        match self.forward {
            Forward::L2 | Forward::Ipip | Forward::Nat => None,
            Forward::Gue => Some(self.tunnel_port.unwrap_or(GUE_PORT)),
            Forward::Geneve => Some(self.tunnel_port.unwrap_or(GENEVE_PORT)),
        }
    }

    /// Where packets to a backend come from, if the kernel would send them from `own`.
    #[must_use]
    pub fn source(&self, backend: IpAddr, own: IpAddr) -> Source {
        let spread = |bits: u8, length: u8, most: u8| bits.saturating_sub(length).min(most);
        let OuterSource { v4, v6 } = self.outer_source;
        let configured = match backend {
            _ if matches!(self.forward, Forward::L2 | Forward::Nat) => None,
            IpAddr::V4(_) => {
                v4.map(|net| (net.network().into(), spread(32, net.prefix_len(), MOST_SPREAD_IPV4)))
            }
            IpAddr::V6(_) => {
                v6.map(|net| (net.network().into(), spread(128, net.prefix_len(), MOST_SPREAD_IPV6)))
            }
        };
        let (prefix, spread) = configured.unwrap_or((own, 0));
        Source { prefix, spread }
    }

    /// The kernel's word for it, towards a backend.
    #[must_use]
    pub const fn kind(&self, backend: IpAddr, source: Source) -> u8 {
        match (self.forward, backend.is_ipv4(), source.spread) {
            (Forward::L2, _, _) => forward::L2,
            (Forward::Ipip, true, 0) => forward::IPV4,
            (Forward::Ipip, false, 0) => forward::IPV6,
            (Forward::Ipip, true, _) => forward::SPREAD_IPV4,
            (Forward::Ipip, false, _) => forward::SPREAD_IPV6,
            (Forward::Gue, true, _) => forward::GUE_IPV4,
            (Forward::Gue, false, _) => forward::GUE_IPV6,
            (Forward::Geneve, true, _) => forward::GENEVE_IPV4,
            (Forward::Geneve, false, _) => forward::GENEVE_IPV6,
            (Forward::Nat, true, _) => forward::NAT_IPV4,
            (Forward::Nat, false, _) => forward::NAT_IPV6,
        }
    }
}
