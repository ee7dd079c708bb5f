//! A loaded balancer with the services of a group of cases.
//!
//! Every service has its backends, and one more, the heir, to whom its slots change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use ipnet::{IpNet, Ipv4Net};
use mesh_common::abi::{BackendCounters, ServiceEntry, flag};
use mesh_common::connection::{self, Connection, Reply, Sources, sign};
use mesh_common::outcome::Outcome;
use mesh_common::quic::{ConfigKey, Parameters};
use mesh_common::slot::Slot;
use mesh_tests::lab::{INGRESS, Lab, neighbour};
use mesh_userspace::config::{
    Admittance, Forward, OuterSource, Oversized, Ports, Protocol, Rules, ServiceKey,
};
use mesh_userspace::dataplane::kernel::Sizes;
use mesh_userspace::dataplane::{Dataplane as _, Op, abi_key};
use mesh_userspace::delivery::Delivery;
use mesh_userspace::guard::Guard;

use crate::cases::{Case, Family, Group, Packets, Slots, Way};
use crate::facts::Facts;
use crate::traffic;

/// One service of a scene.
#[derive(Clone, Copy)]
struct Part {
    /// A case whose packets go there.
    case: &'static Case,
    /// Which of the case's services it is.
    number: u16,
    /// From 1; backends and slots of the parts follow each other.
    id: u32,
}

pub(crate) struct Scene {
    group: &'static Group,
    lab: Lab,
    parts: Vec<Part>,
}

/// The counters of a scene at a moment.
pub(crate) struct Counted {
    transmitted: u64,
    otherwise: u64,
    /// Of all backends but the heirs.
    owners: BackendCounters,
}

impl Scene {
    pub(crate) fn new(group: &'static Group) -> Result<Self> {
        let parts = parts(group);
        let count = u32::try_from(parts.len())?;
        let sizes = Sizes {
            services: count.max(64),
            backends: count * ids_each(group),
            slots: count * group.size,
            rules: 16,
            flows: group.table,
            connections: if Self::translates(group) { 2 << 20 } else { 1 },
            prefixes: count.max(1) * group.prefixes.max(1),
        };
        let mut scene = Self { group, lab: Lab::of_size(sizes)?, parts };
        for part in scene.parts.clone() {
            scene.fill(part)?;
        }
        if group.others {
            scene.add_others(count)?;
        }
        if group.prefixes > 0 {
            let keys = scene.parts.iter().map(|part| traffic::service(part.case, part.number));
            let guards: Vec<_> = keys.map(|key| (key, guard(key, group.prefixes))).collect();
            scene.lab.guard(&guards, 0)?;
        }
        Ok(scene)
    }

    fn translates(group: &Group) -> bool {
        group.cases.iter().any(|case| case.way == Way::Nat)
    }

    /// Has a service translate, and knows of the connections that are answered.
    fn connect(&mut self, part: Part) -> Result<()> {
        self.lab.translate(traffic::service(part.case, part.number))?;
        let sources = Sources { first: 1024, last: u16::MAX, ..Sources::default() };
        self.lab.kernel.write_sources(part.id, &sources)?;
        let answered = self.group.cases.iter().filter(|case| case.packets == Packets::Replies);
        let Some(case) = answered.max_by_key(|case| case.flows) else { return Ok(()) };
        let (told, backend) = (self.lab.now()?, self.heir(part) - 1);
        let way = connection::Way { ifindex: INGRESS, room: 1500, ..connection::Way::default() };
        let connections = (0..case.flows).map(|flow| {
            let [came, to] = traffic::reply(case, flow)?;
            let signs = sign::CLIENT_WENT_ON | sign::ANSWERED;
            let reply = Reply { to, way, backend, told, signs: sign::ANSWERED, ..Reply::default() };
            let connection = Connection {
                to: came.turned(),
                way,
                backend,
                service: part.id,
                seen: told,
                signs,
                ..Connection::default()
            };
            Ok((connection, reply))
        });
        self.lab.connect(connections)
    }

    /// Services that get no packets, at addresses of others; their slots are the first.
    fn add_others(&mut self, known: u32) -> Result<()> {
        let [wide, quic] = [known + 1, known + 2];
        let ports = Ports::range(2000, 2999).context("no range")?;
        let key = ServiceKey::exact([192, 168, 0, 0].into(), 443, Protocol::Quic);
        for (id, key, flags) in
            [(wide, ServiceKey { ports, protocol: Protocol::Tcp, ..key }, 0), (quic, key, flag::QUIC)]
        {
            let (base, size, key) = (0, self.group.size, abi_key(key));
            let entry = ServiceEntry { key, id, base, size, flags, ..ServiceEntry::default() };
            self.lab.kernel.apply(&Op::AddService(entry))?;
        }
        let parameters = Parameters { server_id_length: 4, nonce_length: 6, key: None };
        let key = ConfigKey { service: quic, rotation: 0 };
        self.lab.kernel.apply(&Op::WriteQuicConfig { key, parameters })?;
        Ok(self.lab.kernel.apply(&Op::Route)?)
    }

    fn fill(&mut self, part: Part) -> Result<()> {
        let (address, source) = ends(part.case.way);
        for id in self.owners(part).chain([self.heir(part)]) {
            // Ports are towards a backend: those of one address would not do for so many.
            let [high, low] = u16::try_from(id)?.to_be_bytes();
            let address = if part.case.way == Way::Nat { [10, 3, high, low].into() } else { address };
            self.lab.backend(id, neighbour(address, source, &delivery(part.case.way)))?;
        }
        let (base, size) = (self.base(part), self.group.size);
        self.lab.service(traffic::service(part.case, part.number), part.id, base, size, Slot::default())?;
        let slots = self.group.slots;
        if part.case.way == Way::Nat {
            self.connect(part)?;
        }
        self.write_slots(part, |owner, heir| match slots {
            Slots::Steady => Slot::steady(owner),
            Slots::Migrating => Slot::new(heir, owner, true, false),
            Slots::Recording => Slot::new(heir, owner, true, true),
            Slots::Always => Slot::new(owner, owner, true, true),
        })
    }

    /// Gives every slot to the heirs; who is recorded stays.
    pub(crate) fn disinherit(&mut self) -> Result<()> {
        for part in self.parts.clone() {
            self.write_slots(part, |_, heir| Slot::new(heir, heir, true, false))?;
        }
        Ok(())
    }

    /// The backends take turns, since slots are drawn at random.
    fn write_slots(&mut self, part: Part, slot: impl Fn(u32, u32) -> Slot) -> Result<()> {
        let (base, heir) = (self.base(part), self.heir(part));
        let takers = self.owners(part).cycle();
        for (index, owner) in (base..base + self.group.size).zip(takers) {
            self.lab.slots(index, 1, slot(owner, heir))?;
        }
        Ok(())
    }

    fn owners(&self, part: Part) -> impl Iterator<Item = u32> + Clone + use<> {
        let heir = self.heir(part);
        heir - u32::from(self.group.backends)..heir
    }

    fn heir(&self, part: Part) -> u32 {
        part.id * ids_each(self.group)
    }

    fn base(&self, part: Part) -> u32 {
        (part.id - 1) * self.group.size
    }

    pub(crate) fn slots(&self) -> Slots {
        self.group.slots
    }

    pub(crate) fn program(&mut self) -> Result<ProgramFd> {
        Ok(self.lab.kernel.program()?.fd()?.try_clone()?)
    }

    pub(crate) fn facts(&self) -> Result<Vec<Facts>> {
        self.lab.kernel.loaded().programs.iter().map(Facts::of).collect()
    }

    pub(crate) fn count(&self) -> Result<Counted> {
        let outcomes = self.lab.kernel.outcomes()?;
        let count = |outcome| outcomes.get(&outcome).copied().context("an outcome has no counter");
        let transmitted = count(Outcome::Transmitted)? + count(Outcome::ReplyTransmitted)?;
        let mut owners = BackendCounters::default();
        for id in self.parts.iter().flat_map(|part| self.owners(*part)) {
            let counters = self.lab.counters(id)?;
            owners = owners.plus(&counters);
        }
        Ok(Counted { transmitted, otherwise: outcomes.values().sum::<u64>() - transmitted, owners })
    }
}

impl Counted {
    /// Whether what was counted since then is what a case's packets must have moved.
    pub(crate) fn check(&self, before: &Self, case: &Case, packets: u32) -> Result<()> {
        let packets = u64::from(packets);
        let moved = [
            self.transmitted - before.transmitted,
            self.otherwise - before.otherwise,
            self.to_owners(before),
            self.owners.new_flows - before.owners.new_flows,
        ];
        let opened = match (case.packets, case.way, moved) {
            (Packets::Syns, ..) => packets,
            // Connections begin where no case before has had their flow.
            (Packets::Established, Way::Nat, [.., began]) if began <= case.flows => began,
            _ => 0,
        };
        let expected = [packets, 0, packets, opened];
        ensure!(
            moved == expected,
            "the counters (transmitted, otherwise, to owners, new flows) moved by {moved:?} instead of {expected:?}"
        );
        Ok(())
    }

    /// Packets that went to backends that are no heirs since then.
    pub(crate) fn to_owners(&self, before: &Self) -> u64 {
        let moved = self.owners.since(&before.owners);
        moved.packets() + moved.replies()
    }
}

/// A guard that keeps out so many addresses about those of the clients, whose last byte is 0.
fn guard(key: ServiceKey, prefixes: u32) -> Guard {
    // Scattered by a number without a divisor in common with a power of two, so that none comes twice.
    let scattered = (0..).map(|number: u32| number.wrapping_mul(0x9e37_79b1) & 0x00ff_ffff);
    let address = |low: u32| match key.vip {
        IpNet::V4(_) => IpAddr::from((10 << 24 | low).to_be_bytes()),
        IpNet::V6(_) => IpAddr::from((0x2001_0db8_0000_0001 << 64 | u128::from(low)).to_be_bytes()),
    };
    let denied =
        scattered.filter(|low| low & 0xff != 0).map(|low| (IpNet::from(address(low)), Admittance::Deny));
    let rules = Rules { others: Admittance::Allow, prefixes: denied.take(prefixes as usize).collect() };
    Guard { configured: Arc::new(rules), ordered: BTreeMap::new() }
}

/// A service for each family, protocol and way of the cases, as many times as the group says.
fn parts(group: &'static Group) -> Vec<Part> {
    let mut distinct: Vec<&'static Case> = Vec::new();
    for case in group.cases {
        if !distinct.iter().any(|other| traffic::service(other, 0) == traffic::service(case, 0)) {
            distinct.push(case);
        }
    }
    let numbered = distinct.into_iter().flat_map(|case| (0..group.services).map(move |n| (case, n)));
    (1..).zip(numbered).map(|(id, (case, number))| Part { case, number, id }).collect()
}

fn ids_each(group: &Group) -> u32 {
    u32::from(group.backends) + 1
}

fn delivery(way: Way) -> Delivery {
    match way {
        Way::L2 => Delivery::plain(Forward::L2),
        Way::Outer(_) => Delivery::plain(Forward::Ipip),
        Way::Gue => Delivery::plain(Forward::Gue),
        Way::Geneve => Delivery::plain(Forward::Geneve),
        Way::Prefix => {
            let v4 = Some(Ipv4Net::new_assert([10, 9, 0, 0].into(), 16));
            Delivery { outer_source: OuterSource { v4, v6: None }, ..Delivery::plain(Forward::Ipip) }
        }
        Way::Nat => Delivery::plain(Forward::Nat),
        Way::Tell => Delivery { oversized: Oversized::Tell, ..Delivery::plain(Forward::Ipip) },
    }
}

/// A backend's address, and the balancer's towards it.
fn ends(way: Way) -> (IpAddr, IpAddr) {
    match way {
        Way::L2 | Way::Outer(Family::V4) | Way::Gue | Way::Geneve | Way::Prefix | Way::Tell | Way::Nat => {
            ([10, 1, 0, 1].into(), [10, 1, 0, 9].into())
        }
        Way::Outer(Family::V6) => {
            let address = |last| IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, last]);
            (address(1), address(9))
        }
    }
}
