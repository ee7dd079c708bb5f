//! A lab in which any ends become any others, in either direction of a connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_common::abi::{BackendEntry, forward, halves, whole};
use mesh_common::connection::{Connection, Reply, Sources, Way};
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_common::tuple::Tuple;
use mesh_tests::lab::{INGRESS, Lab, SIZES};
use mesh_userspace::config::{Protocol, ServiceKey};
use mesh_userspace::dataplane::Dataplane as _;
use mesh_userspace::dataplane::kernel::Sizes;

use super::reference::{Ends, MACS};
use crate::frame::{Frame, Transport};
use crate::world::action;

/// Slots of each service.
const SLOTS: u32 = 7;

/// Whose packets are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The client's.
    Forward,
    /// The backend's.
    Return,
}

/// How translated packets leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// The longest packet.
    pub(crate) room: u16,
    /// The interface.
    pub(crate) ifindex: u32,
    /// Where packets go back to clients: their VLAN tags.
    pub(crate) tags: &'static [u8],
}

impl Out {
    /// What takes every packet, by the interface that they come in by.
    pub(crate) const WIDE: Self = Self { room: 65_534, ifindex: INGRESS, tags: &[] };
}

/// The lab.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) direction: Direction,
    /// The services, by whom packets are for.
    services: BTreeMap<(SocketAddr, u8), u32>,
}

impl World {
    /// A world of either direction.
    pub(crate) fn both() -> [Self; 2] {
        [Direction::Forward, Direction::Return].map(Self::new)
    }

    pub(crate) fn new(direction: Direction) -> Self {
        Self::over(Lab::new().unwrap(), direction)
    }

    fn over(lab: Lab, direction: Direction) -> Self {
        let mut world = Self { lab, direction, services: BTreeMap::new() };
        // Answers are looked for once there is a service that has some.
        let nobody = SocketAddr::from(([192, 0, 2, 1], 1));
        world.service(nobody, 6);
        world
    }

    fn service(&mut self, destination: SocketAddr, number: u8) -> u32 {
        if let Some(id) = self.services.get(&(destination, number)) {
            return *id;
        }
        let id = u32::try_from(self.services.len()).unwrap() + 1;
        let protocol = if number == 17 { Protocol::Udp } else { Protocol::Tcp };
        let key = ServiceKey::exact(destination.ip(), destination.port(), protocol);
        self.lab.service(key, id, id * SLOTS, SLOTS, Slot::steady(id)).unwrap();
        self.lab.translate(key).unwrap();
        self.services.insert((destination, number), id);
        id
    }

    /// Has packets with the ends of this one become packets with others.
    pub(crate) fn connect(&mut self, frame: &Frame, to: Ends, out: Out) {
        let from = tuple(Ends::of(frame), number(frame));
        let to = tuple(to, number(frame));
        match self.direction {
            Direction::Forward => {
                let id = self.service(frame.destination, number(frame));
                self.lab.backend(id, backend(id, &to, out)).unwrap();
                let connection = Connection { to, backend: id, service: id, ..Connection::default() };
                self.lab.connection(&from, &connection).unwrap();
            }
            Direction::Return => {
                let reply = Reply { to, way: way(out), backend: 1, ..Reply::default() };
                self.lab.reply(&from, &reply).unwrap();
            }
        }
    }

    /// A world with room for so many connections, in which packets like this one begin some from one address and port to a
    /// backend: the ends of its answers. Another connection has a port of that address.
    pub(crate) fn with_one_port(connections: u32, frame: &Frame, answers: Ends, taken: u16) -> Self {
        let sizes = Sizes { connections, ..SIZES };
        let mut world = Self::over(Lab::of_size(sizes).unwrap(), Direction::Forward);
        let id = world.service(frame.destination, number(frame));
        let Tuple { source, destination, source_port, destination_port, .. } = tuple(answers, number(frame));
        let entry = BackendEntry {
            address: whole(source),
            port: u16::from_be(source_port),
            ..backend(id, &tuple(answers, 0), Out::WIDE)
        };
        world.lab.backend(id, entry).unwrap();
        let mut sources = Sources { v4_count: 1, ..Sources::default() };
        (sources.first, sources.last) = (u16::from_be(destination_port), u16::from_be(destination_port));
        sources.v4[0] = destination;
        world.lab.kernel.write_sources(id, &sources).unwrap();
        let other = Ends { destination: SocketAddr::new(answers.destination.ip(), taken), ..answers };
        world.lab.reply(&tuple(other, number(frame)), &Reply::default()).unwrap();
        world
    }

    /// Runs a packet that must leave by the interface that it came in by.
    pub(crate) fn sent(&mut self, about: &str, input: &[u8]) -> Vec<u8> {
        let outcome = match self.direction {
            Direction::Forward => Outcome::Transmitted,
            Direction::Return => Outcome::ReplyTransmitted,
        };
        self.ends(about, outcome, input)
    }

    /// Runs a packet that must leave by another interface.
    pub(crate) fn redirected(&mut self, about: &str, input: &[u8]) -> Vec<u8> {
        let outcome = match self.direction {
            Direction::Forward => Outcome::Redirected,
            Direction::Return => Outcome::ReplyRedirected,
        };
        self.ends(about, outcome, input)
    }

    /// Runs a packet whose journey must end so.
    pub(crate) fn ends(&mut self, about: &str, outcome: Outcome, input: &[u8]) -> Vec<u8> {
        let verdict = self.lab.run(input).unwrap();
        assert_eq!(verdict.moved, [(outcome, 1)].into(), "{:?}, {about}", self.direction);
        assert_eq!(verdict.action, action(outcome), "{:?}, {about}", self.direction);
        verdict.packet
    }
}

fn number(frame: &Frame) -> u8 {
    if frame.transport == Transport::Udp { 17 } else { 6 }
}

fn tuple(ends: Ends, protocol: u8) -> Tuple {
    let Ends { source, destination } = ends;
    let [source_port, destination_port] = [source.port(), destination.port()].map(u16::to_be);
    let [source, destination] = [source.ip(), destination.ip()].map(|address| {
        halves(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    });
    Tuple { source, destination, source_port, destination_port, protocol, reserved: [0; 3] }
}

fn backend(service: u32, to: &Tuple, out: Out) -> BackendEntry {
    let [destination_mac, source_mac] = MACS;
    BackendEntry {
        destination_mac,
        source_mac,
        forward: if to.is_ipv4() { forward::NAT_IPV4 } else { forward::NAT_IPV6 },
        alive: 1,
        ifindex: out.ifindex,
        room: out.room,
        service,
        ..BackendEntry::default()
    }
}

fn way(out: Out) -> Way {
    let (macs, macs_rest) = backend(0, &Tuple::default(), out).macs();
    let mut tags = [0; 2];
    for (tag, bytes) in tags.iter_mut().zip(out.tags.as_chunks::<4>().0) {
        *tag = u32::from_ne_bytes(*bytes);
    }
    let tag_count = u16::try_from(out.tags.len() / 4).unwrap();
    Way { macs, macs_rest, ifindex: out.ifindex, tags, tag_count, room: out.room, reserved: 0 }
}
