//! What the kernel said, in our words: links, routing decisions, neighbours.
//!
//! Invariant: plain values; a snapshot is complete or it does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::Mac;

/// A neighbour's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hop {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// The kernel's answer to the lookup of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    Route(Route),
    /// Positive errno.
    Refused(i32),
    Unanswered(Duration),
}

/// One routing decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) kind: RouteKind,
    pub(super) ifindex: u32,
    /// None: the destination is a neighbour. May be of the other family (RFC 5549).
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
    pub(super) encapsulated: bool,
}

/// Route types that are told apart (`rtm_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteKind {
    Unicast,
    Local,
    /// Broadcast, multicast, anycast: a name for people.
    Group(&'static str),
    /// Blackhole and the like: the name `ip route` gives it.
    Closed(&'static str),
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    /// None: not an Ethernet interface.
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    /// Administratively up.
    pub(crate) up: bool,
    /// Operationally up, or of a kind that does not tell.
    pub(crate) carrier: bool,
}

/// An entry of the kernel's neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    Known {
        mac: Mac,
        /// Not confirmed lately. XDP traffic does not make the kernel confirm it, so that we have to ask.
        stale: bool,
    },
    /// The kernel is asking.
    Pending,
    Failed,
}

/// What the kernel said, at one moment, about everything that is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) lookups: BTreeMap<IpAddr, Lookup>,
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) neighbours: BTreeMap<Hop, Neighbour>,
}

impl Snapshot {
    /// The neighbours that packets to the wanted addresses go to.
    pub(super) fn hops(&self) -> BTreeSet<Hop> {
        self.lookups.iter().filter_map(|(address, lookup)| hop_of(*address, lookup)).collect()
    }

    /// The neighbours that the kernel should be asked to resolve or to confirm.
    pub(super) fn unconfirmed(&self) -> BTreeSet<Hop> {
        self.hops().into_iter().filter(|hop| self.is_usable(hop.ifindex) && self.needs_asking(hop)).collect()
    }

    fn is_usable(&self, ifindex: u32) -> bool {
        self.links.get(&ifindex).is_some_and(|link| link.up && link.carrier && link.mac.is_some())
    }

    fn needs_asking(&self, hop: &Hop) -> bool {
        match self.neighbours.get(hop) {
            None | Some(Neighbour::Failed) => true,
            Some(Neighbour::Pending) => false,
            Some(Neighbour::Known { stale, .. }) => *stale,
        }
    }
}

fn hop_of(address: IpAddr, lookup: &Lookup) -> Option<Hop> {
    match lookup {
        Lookup::Route(route) if route.kind == RouteKind::Unicast => Some(route.hop(address)),
        Lookup::Route(_) | Lookup::Refused(_) | Lookup::Unanswered(_) => None,
    }
}

impl Route {
    /// The neighbour that packets to `address` are handed to.
    pub(super) fn hop(&self, address: IpAddr) -> Hop {
        Hop { ifindex: self.ifindex, address: self.gateway.unwrap_or(address) }
    }
}
