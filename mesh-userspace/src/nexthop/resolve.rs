//! From what the kernel said to where packets go: pure, so that every case is a unit test.
//!
//! Invariant: the only memory is the last way of each wanted address, and its Ethernet address is used again
//! only while the kernel still routes over the same interface and gateway and nothing else was in the way; and which
//! neighbours have not answered since they were last known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nix::errno::Errno;

use super::model::{Hop, Link, Lookup, Neighbour, Route, RouteKind, Snapshot};
use super::obstacle::Obstacle;
use super::{Mac, NextHop};

/// The way an address was last seen to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trail {
    hop: Hop,
    /// None after an obstacle: whatever comes back must be resolved anew.
    next_hop: Option<NextHop>,
}

/// The last way of each wanted address.
#[derive(Debug, Default)]
pub(super) struct Memory {
    trails: BTreeMap<IpAddr, Trail>,
    /// The kernel gave them up. Whatever is sent to them makes it ask again, which is no news.
    silent: BTreeSet<Hop>,
}

impl Memory {
    /// Judges every wanted address, and remembers its way.
    pub(super) fn resolve(&mut self, snapshot: &Snapshot) -> BTreeMap<IpAddr, Result<NextHop, Obstacle>> {
        self.trails.retain(|address, _| snapshot.lookups.contains_key(address));
        self.listen(snapshot);
        snapshot
            .lookups
            .iter()
            .map(|(address, lookup)| (*address, self.judge(*address, lookup, snapshot)))
            .collect()
    }

    fn listen(&mut self, snapshot: &Snapshot) {
        let hops = snapshot.hops();
        self.silent.retain(|hop| hops.contains(hop));
        for hop in hops {
            match snapshot.neighbours.get(&hop) {
                Some(Neighbour::Failed) => drop(self.silent.insert(hop)),
                Some(Neighbour::Known { .. }) => drop(self.silent.remove(&hop)),
                Some(Neighbour::Pending) | None => {}
            }
        }
    }

    fn judge(&mut self, address: IpAddr, lookup: &Lookup, snapshot: &Snapshot) -> Result<NextHop, Obstacle> {
        let trail = self.trails.get(&address).copied();
        let way = Question { address, snapshot, trail, silent: &self.silent }.answer(lookup);
        match way {
            Ok((hop, next_hop)) => {
                self.trails.insert(address, Trail { hop, next_hop: Some(next_hop) });
                Ok(next_hop)
            }
            Err(obstacle) => {
                self.forget_next_hop(address);
                Err(obstacle)
            }
        }
    }

    fn forget_next_hop(&mut self, address: IpAddr) {
        if let Some(trail) = self.trails.get_mut(&address) {
            trail.next_hop = None;
        }
    }
}

/// Where do packets to `address` go?
struct Question<'a> {
    address: IpAddr,
    snapshot: &'a Snapshot,
    trail: Option<Trail>,
    silent: &'a BTreeSet<Hop>,
}

type Way = Result<(Hop, NextHop), Obstacle>;

impl Question<'_> {
    fn answer(&self, lookup: &Lookup) -> Way {
        match lookup {
            Lookup::Route(route) => self.along(route),
            Lookup::Refused(errno) => Err(self.refusal(*errno)),
            Lookup::Unanswered(after) => {
                let address = self.address;
                self.last().ok_or(Obstacle::Unanswered { address, after: *after })
            }
        }
    }

    fn last(&self) -> Option<(Hop, NextHop)> {
        self.trail.and_then(|trail| Some((trail.hop, trail.next_hop?)))
    }

    fn along(&self, route: &Route) -> Way {
        let address = self.address;
        self.passable(route)?;
        let link = self.link(route.ifindex)?;
        let source_mac = ethernet(link)?;
        let source = route.source.ok_or(Obstacle::NoSource { address })?;
        let hop = route.hop(address);
        let destination_mac = self.neighbour(hop, link)?;
        let mtu = route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
        Ok((
            hop,
            NextHop {
                ifindex: route.ifindex,
                source,
                source_mac,
                destination_mac,
                mtu,
                direct: route.gateway.is_none(),
                is_here: false,
            },
        ))
    }

    fn passable(&self, route: &Route) -> Result<(), Obstacle> {
        let address = self.address;
        match route.kind {
            RouteKind::Local => Err(Obstacle::Local { address }),
            RouteKind::Group(kind) => Err(Obstacle::Group { address, kind }),
            RouteKind::Closed(kind) => Err(Obstacle::RouteType { address, kind }),
            RouteKind::Unicast if route.encapsulated => Err(Obstacle::Encapsulated { address }),
            RouteKind::Unicast => Ok(()),
        }
    }

    fn link(&self, ifindex: u32) -> Result<&Link, Obstacle> {
        let unknown = Obstacle::NoInterface { address: self.address, ifindex };
        self.snapshot.links.get(&ifindex).ok_or(unknown)
    }

    fn neighbour(&self, hop: Hop, link: &Link) -> Result<Mac, Obstacle> {
        let (neighbour, interface) = (hop.address, || link.name.clone());
        match self.snapshot.neighbours.get(&hop) {
            Some(Neighbour::Known { mac, .. }) => Ok(*mac),
            None | Some(Neighbour::Pending) if !self.silent.contains(&hop) => {
                self.last_mac(hop).ok_or_else(|| Obstacle::Waiting { neighbour, interface: interface() })
            }
            None | Some(Neighbour::Pending | Neighbour::Failed) => {
                self.last_mac(hop).ok_or_else(|| Obstacle::Silent { neighbour, interface: interface() })
            }
        }
    }

    fn last_mac(&self, hop: Hop) -> Option<Mac> {
        self.last().filter(|(last, _)| *last == hop).map(|(_, next_hop)| next_hop.destination_mac)
    }

    /// The kernel has an error for each route type that closes the way (`fib_props`, net/ipv4/fib_semantics.c,
    /// and `ip6_rt_type_to_error`, net/ipv6/route.c).
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the kernel has many errors, few say something about routes"
    )]
    fn refusal(&self, errno: i32) -> Obstacle {
        let address = self.address;
        match Errno::from_raw(errno) {
            Errno::ENETUNREACH => self.no_route(),
            Errno::EHOSTUNREACH => Obstacle::RouteType { address, kind: "unreachable" },
            Errno::EACCES => Obstacle::RouteType { address, kind: "prohibit" },
            Errno::EINVAL => Obstacle::RouteType { address, kind: "blackhole" },
            _ => Obstacle::Refused { address, errno },
        }
    }

    /// Routes leave with their interface: if the last one is down, that is what must be repaired.
    fn no_route(&self) -> Obstacle {
        let address = self.address;
        let last = self.trail.and_then(|trail| self.snapshot.links.get(&trail.hop.ifindex));
        match last {
            Some(link) if !link.up => Obstacle::NoRouteSince { address, interface: link.name.clone() },
            Some(_) | None => Obstacle::NoRoute { address },
        }
    }
}

fn ethernet(link: &Link) -> Result<Mac, Obstacle> {
    let interface = || link.name.clone();
    let mac = link.mac.ok_or_else(|| Obstacle::NoEthernet { interface: interface() })?;
    if !link.up {
        return Err(Obstacle::Down { interface: interface() });
    }
    if !link.carrier {
        return Err(Obstacle::NoCarrier { interface: interface() });
    }
    Ok(mac)
}
