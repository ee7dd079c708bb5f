//! Services wider than one port of one address: who gets which packet, and that nobody else is disturbed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type};
use mesh_common::abi::{BackendCounters, BackendEntry};
use mesh_common::flow::{FlowRecord, state};
use mesh_common::hash;
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, SEED, SIZES};
use mesh_userspace::config::{Ports, Protocol, ServiceKey};
use mesh_userspace::dataplane::kernel::Sizes;
use mesh_userspace::dataplane::{Dataplane as _, DataplaneError, wide_flow_hash, wire_address};

use crate::frame::{Flags, Frame, Transport};
use crate::icmp::{answer_to, error, kinds};
use crate::world::{Expected, SLOTS, Way, World, assert_same, opening, services, xdp};

const SYN: Transport = Transport::Tcp(Flags::Syn);
const SCTP: Transport = Transport::Other(132);
const ESP: Transport = Transport::Other(50);
const GRE: Transport = Transport::Other(47);

/// Ids of wide services and of their backends; those of [`World`] are lower.
const FIRST: u32 = 10;

/// A prefix and addresses before, in and behind it.
struct Net {
    prefix: &'static str,
    within: [&'static str; 3],
    outside: [&'static str; 2],
}

const NETS: [Net; 2] = [
    Net {
        prefix: "203.0.112.0/23",
        within: ["203.0.112.0", "203.0.113.0", "203.0.113.255"],
        outside: ["203.0.111.255", "203.0.114.0"],
    },
    Net {
        prefix: "2001:db8:5::/64",
        within: ["2001:db8:5::", "2001:db8:5::8000:0:0:1", "2001:db8:5:0:ffff:ffff:ffff:ffff"],
        outside: ["2001:db8:4:ffff:ffff:ffff:ffff:ffff", "2001:db8:5:1::"],
    },
];

fn key(vip: &str, ports: Ports, protocol: Protocol) -> ServiceKey {
    let vip = vip.parse().unwrap_or_else(|_| vip.parse::<IpAddr>().unwrap().into());
    ServiceKey { vip, ports, protocol }
}

fn range(first: u16, last: u16) -> Ports {
    Ports::range(first, last).unwrap()
}

/// A client's packet.
fn frame(vip: &str, port: u16, transport: Transport) -> Frame {
    let vip: IpAddr = vip.parse().unwrap();
    let client = if vip.is_ipv4() { "198.51.100.7" } else { "2001:db8:1::7" };
    let payload = if matches!(transport, Transport::Other(_)) { 40 } else { 0 };
    let (client, vip) = (SocketAddr::new(client.parse().unwrap(), 4000), SocketAddr::new(vip, port));
    Frame { payload, ..Frame::new(client, vip, transport) }
}

/// The world with wide services, each of which has a backend of its own.
struct Wide {
    world: World,
    ids: BTreeMap<ServiceKey, u32>,
}

impl Wide {
    fn new() -> Self {
        Self { world: World::new(Way::L2), ids: BTreeMap::new() }
    }

    fn with(keys: &[ServiceKey]) -> Self {
        let mut wide = Self::new();
        keys.iter().for_each(|key| wide.add(*key));
        wide
    }

    fn add(&mut self, key: ServiceKey) {
        let id = (FIRST..).find(|id| !self.ids.values().any(|taken| taken == id)).unwrap();
        self.backend(id, id);
        self.world.lab.service(key, id, id * SLOTS, SLOTS, Slot::steady(id)).unwrap();
        self.ids.insert(key, id);
    }

    fn remove(&mut self, key: ServiceKey) {
        self.world.lab.remove_service(key).unwrap();
        self.ids.remove(&key);
    }

    /// A backend that is told by the last byte of its Ethernet address.
    fn backend(&mut self, id: u32, service: u32) {
        self.world.lab.backend(id, BackendEntry { service, ..entry(id) }).unwrap();
    }

    /// The backend of a service must get the frame, and nobody else anything; or it must be kept.
    fn check(&mut self, frame: &Frame, to: Result<ServiceKey, Outcome>) {
        let about = format!("{:?} to {}", frame.transport, frame.destination);
        match to {
            Ok(key) => {
                let sent =
                    Frame { destination_mac: entry(self.ids[&key]).destination_mac, ..at_backend(frame) };
                let opens = frame.transport == SYN && key.protocol == Protocol::Tcp;
                self.check_bytes(&about, &frame.bytes(), key, &sent.bytes(), opens);
            }
            Err(outcome) => self.world.check(&about, &frame.bytes(), &Expected::Kept(outcome)),
        }
    }

    fn check_bytes(&mut self, about: &str, input: &[u8], key: ServiceKey, output: &[u8], opens: bool) {
        let id = self.ids[&key];
        let before = self.world.lab.counters(id).unwrap();
        let verdict = self.world.lab.run(input).unwrap();
        assert_eq!(verdict.moved, BTreeMap::from([(Outcome::Transmitted, 1)]), "{about}: the counter");
        assert_eq!(verdict.action, xdp::TX, "{about}: the action");
        assert_same(about, &verdict.packet, output);
        let counted = BackendCounters {
            transmitted: before.transmitted + 1,
            redirected: before.redirected,
            bytes: before.bytes + u64::try_from(input.len() - 14).unwrap(),
            new_flows: before.new_flows + u64::from(opens),
            ..before
        };
        assert_eq!(self.world.lab.counters(id).unwrap(), counted, "{about}: the backend's counters");
    }
}

fn entry(id: u32) -> BackendEntry {
    BackendEntry { destination_mac: [2, 0, 0, 0, 1, u8::try_from(id).unwrap()], ..Way::L2.entry() }
}

/// The frame as a neighbour gets it.
fn at_backend(frame: &Frame) -> Frame {
    Frame { source_mac: Way::L2.entry().source_mac, hops: frame.hops - 1, ..frame.clone() }
}

#[test]
fn a_range_of_ports_ends_where_it_ends() {
    for vip in ["203.0.113.1", "2001:db8:5::1"] {
        for (protocol, transport, other) in
            [(Protocol::Tcp, SYN, Transport::Udp), (Protocol::Udp, Transport::Udp, SYN)]
        {
            let key = key(vip, range(8000, 8100), protocol);
            let mut wide = Wide::with(&[key]);
            for port in [8000, 8001, 8063, 8064, 8095, 8099, 8100] {
                wide.check(&frame(vip, port, transport), Ok(key));
                wide.check(&frame(vip, port, other), Err(Outcome::NotAService));
            }
            for port in [0, 80, 7999, 8101, 8192, 16_192, u16::MAX] {
                wide.check(&frame(vip, port, transport), Err(Outcome::NotAService));
            }
            wide.check(&frame(vip, 8000, SCTP), Err(Outcome::OtherProtocol));
        }
    }
}

#[test]
fn all_ports_are_all() {
    for vip in ["203.0.113.1", "2001:db8:5::1"] {
        let key = key(vip, Ports::ANY, Protocol::Udp);
        let mut wide = Wide::with(&[key]);
        for port in [0, 1, 80, 32_767, 32_768, u16::MAX] {
            wide.check(&frame(vip, port, Transport::Udp), Ok(key));
            wide.check(&frame(vip, port, SYN), Err(Outcome::NotAService));
        }
    }
}

#[test]
fn a_prefix_ends_where_it_ends() {
    for Net { prefix, within, outside } in NETS {
        let key = key(prefix, Ports::one(80), Protocol::Tcp);
        let mut wide = Wide::with(&[key]);
        for vip in within {
            wide.check(&frame(vip, 80, SYN), Ok(key));
            wide.check(&frame(vip, 81, SYN), Err(Outcome::NotAService));
            wide.check(&frame(vip, 80, Transport::Udp), Err(Outcome::NotAService));
        }
        for vip in outside {
            wide.check(&frame(vip, 80, SYN), Err(Outcome::NotAService));
        }
    }
}

#[test]
fn the_most_specific_service_gets_the_packet() {
    for (prefix, inner, vip, neighbour) in [
        ("203.0.112.0/23", "203.0.113.0/24", "203.0.113.1", "203.0.112.1"),
        ("2001:db8:5::/64", "2001:db8:5::/96", "2001:db8:5::1", "2001:db8:5::1:0:0:1"),
    ] {
        let every = key(prefix, Ports::ANY, Protocol::Any);
        let tcp = key(prefix, Ports::ANY, Protocol::Tcp);
        let many = key(prefix, range(8000, 8100), Protocol::Tcp);
        let few = key(prefix, range(8050, 8060), Protocol::Tcp);
        let nearer = key(inner, range(8055, 8200), Protocol::Tcp);
        let nearest = key(vip, range(1, 8000), Protocol::Udp);
        let exact = ServiceKey::exact(vip.parse().unwrap(), 8055, Protocol::Tcp);
        let mut wide = Wide::with(&[nearest, few, exact, every, tcp, nearer, many]);
        for (to, port, transport, wanted) in [
            (neighbour, 80, SYN, tcp),
            (neighbour, 8000, SYN, many),
            (neighbour, 8050, SYN, few),
            (neighbour, 8055, SYN, few),
            (neighbour, 8061, SYN, many),
            (neighbour, 8101, SYN, tcp),
            (neighbour, 8055, Transport::Udp, every),
            (neighbour, 0, SCTP, every),
            (vip, 80, SYN, tcp),
            (vip, 8054, SYN, few),
            (vip, 8055, SYN, exact),
            (vip, 8056, SYN, nearer),
            (vip, 8200, SYN, nearer),
            (vip, 8201, SYN, tcp),
            (vip, 8000, Transport::Udp, nearest),
            (vip, 8001, Transport::Udp, every),
            (vip, 0, ESP, every),
        ] {
            wide.check(&frame(to, port, transport), Ok(wanted));
        }
    }
}

#[test]
fn every_protocol_but_icmp_goes_by_address_alone() {
    for (vip, other) in [("203.0.113.1", "203.0.113.2"), ("2001:db8:5::1", "2001:db8:5::2")] {
        let key = key(vip, Ports::ANY, Protocol::Any);
        let mut wide = Wide::with(&[key]);
        for transport in [SCTP, ESP, GRE, SYN, Transport::Udp, Transport::Tcp(Flags::FinAck)] {
            wide.check(&frame(vip, 80, transport), Ok(key));
        }
        for transport in [SCTP, ESP, GRE] {
            wide.check(&frame(other, 80, transport), Err(Outcome::OtherProtocol));
        }
        for transport in [Transport::Other(1), Transport::Other(58)] {
            let kept = if vip.contains(':') == (transport == Transport::Other(58)) {
                Err(Outcome::OtherProtocol)
            } else {
                // The other family's ICMP is nothing special.
                Ok(key)
            };
            wide.check(&frame(vip, 80, transport), kept);
        }
        wide.check(&frame(other, 80, SYN), Err(Outcome::NotAService));
        let mut short = frame(vip, 80, SCTP).bytes();
        short.truncate(short.len() - 1);
        wide.world.check("an SCTP packet cut short", &short, &Expected::Kept(Outcome::BadLength));
    }
}

#[test]
fn errors_about_flows_of_wide_services_reach_their_backends() {
    for Net { prefix, within: [.., vip], .. } in NETS {
        let some = key(prefix, range(8000, 8100), Protocol::Tcp);
        let every = key(prefix, Ports::ANY, Protocol::Any);
        let mut wide = Wide::with(&[some, every]);
        for (port, transport, owner) in
            [(8100, SYN, some), (8101, SYN, every), (80, Transport::Udp, every), (0, SCTP, every)]
        {
            let sent = frame(vip, port, transport);
            // The flow's packet and the error about it must meet in one slot.
            let slot = spread(&mut wide, owner, &sent);
            for (kind4, kind6) in kinds() {
                let quoted = answer_to(&sent).bytes();
                let input = error(sent.destination.ip(), &quoted[14..], kind4, kind6);
                let got = wide.world.lab.run(&input).unwrap();
                assert_eq!(got.moved, BTreeMap::from([(Outcome::Transmitted, 1)]), "{sent:?}");
                assert_eq!(u32::from(got.packet[5]), slot, "{sent:?}");
                assert_eq!(got.packet[14 + 20..], input[14 + 20..], "{sent:?}");
            }
        }
        let asked = IcmpEchoHeader { id: 1, seq: 1 };
        let sent = frame(vip, 80, SCTP);
        let (kind4, kind6) = kinds().remove(0);
        let ping =
            error(sent.destination.ip(), b"ping", Icmpv4Type::EchoReply(asked), Icmpv6Type::EchoReply(asked));
        let about_ping = error(sent.destination.ip(), &ping[14..], kind4, kind6);
        wide.world.check("an error about ICMP", &about_ping, &Expected::Kept(Outcome::OtherProtocol));
    }
}

/// Gives each slot of a service a backend of its own, and answers which one a packet goes to, by the last byte of its
/// Ethernet address.
fn spread(wide: &mut Wide, key: ServiceKey, frame: &Frame) -> u32 {
    let id = wide.ids[&key];
    for slot in 0..SLOTS {
        let backend = 40 + slot;
        wide.backend(backend, id);
        wide.world.lab.slots(id * SLOTS + slot, 1, Slot::steady(backend)).unwrap();
    }
    let (action, packet) = wide.world.lab.send(&frame.bytes()).unwrap();
    assert_eq!(action, xdp::TX, "{frame:?}");
    u32::from(packet[5])
}

#[test]
fn a_flow_is_hashed_with_whom_it_is_to() {
    for Net { prefix, within, .. } in NETS {
        let some = key(prefix, range(8000, 8100), Protocol::Tcp);
        let every = key(prefix, Ports::ANY, Protocol::Any);
        let mut wide = Wide::with(&[some, every]);
        let mut slots = Vec::new();
        for vip in within {
            for port in 8000..8016 {
                let sent = frame(vip, port, SYN);
                let hash = wide_flow_hash(SEED, sent.source, sent.destination);
                let slot = 40 + hash::slot(hash, SLOTS);
                assert_eq!(spread(&mut wide, some, &sent), slot, "{sent:?}");
                slots.push(slot);
            }
            let [client, to] = [frame(vip, 0, SCTP).source, frame(vip, 0, SCTP).destination]
                .map(|address| SocketAddr::new(address.ip(), 0));
            let slot = 40 + hash::slot(wide_flow_hash(SEED, client, to), SLOTS);
            for (port, transport) in [(80, SYN), (81, Transport::Udp), (0, SCTP), (0, ESP)] {
                assert_eq!(spread(&mut wide, every, &frame(vip, port, transport)), slot, "by address alone");
            }
        }
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), usize::try_from(SLOTS).unwrap(), "one client's flows spread");
    }
}

#[test]
fn flows_of_one_client_to_two_vips_are_two() {
    for Net { prefix, within: [one, other, _], .. } in NETS {
        let key = key(prefix, range(8000, 8100), Protocol::Tcp);
        let mut wide = Wide::with(&[key]);
        let id = wide.ids[&key];
        wide.backend(id + 1, id);
        wide.world.lab.slots(id * SLOTS, SLOTS, Slot::new(id, id + 1, true, true)).unwrap();
        let got = |wide: &mut Wide, vip, flags| {
            let frame = frame(vip, 8000, Transport::Tcp(flags));
            u32::from(wide.world.lab.send(&frame.bytes()).unwrap().1[5])
        };
        assert_eq!(got(&mut wide, one, Flags::Syn), id, "a new flow");
        assert_eq!(got(&mut wide, other, Flags::Ack), id + 1, "an old one of the same client and port");
        assert_eq!(got(&mut wide, one, Flags::Ack), id, "by its record");
        let mut hashes: Vec<u64> = [one, other]
            .map(|vip| frame(vip, 8000, SYN))
            .map(|f| wide_flow_hash(SEED, f.source, f.destination))
            .into();
        let mut found: Vec<u64> = wide.world.lab.flows().unwrap().iter().map(|flow| flow.hash).collect();
        hashes.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, hashes);
    }
}

#[test]
fn a_pair_of_addresses_is_one_flow_that_no_syn_begins_anew() {
    for Net { prefix, within: [vip, ..], .. } in NETS {
        let key = key(prefix, Ports::ANY, Protocol::Any);
        let mut wide = Wide::with(&[key]);
        let id = wide.ids[&key];
        wide.backend(id + 1, id);
        wide.world.lab.slots(id * SLOTS, SLOTS, Slot::new(id, id + 1, true, true)).unwrap();
        for transport in [Transport::Udp, Transport::Tcp(Flags::FinAck), SYN, SCTP, ESP] {
            let (_, packet) = wide.world.lab.send(&frame(vip, 80, transport).bytes()).unwrap();
            assert_eq!(u32::from(packet[5]), id + 1, "{transport:?} belongs to whom the others went");
        }
        let flows = wide.world.lab.flows().unwrap();
        let [flow] = flows.as_slice() else { panic!("{flows:?}") };
        assert_eq!((flow.client.port(), flow.service), (0, id));
        assert!(matches!(flow.record, FlowRecord { state: state::ESTABLISHED, .. }), "{flow:?}");
        assert_eq!(wide.world.lab.counters(id + 1).unwrap().new_flows, 1);
    }
}

#[test]
fn what_is_nobodys_passes_untouched_beside_wide_services() {
    let mut wide = Wide::with(&[
        key("203.0.113.1", range(8000, 8100), Protocol::Tcp),
        key("2001:db8:5::/64", Ports::ANY, Protocol::Any),
    ]);
    for service in services() {
        wide.world.check_sent("an exact service", Way::L2, Outcome::Transmitted, &opening(&service));
        let mut frame = opening(&service);
        frame.destination.set_port(81);
        wide.world.check("another port", &frame.bytes(), &Expected::Kept(Outcome::NotAService));
        frame.transport = SCTP;
        wide.world.check("another protocol", &frame.bytes(), &Expected::Kept(Outcome::OtherProtocol));
    }
}

/// Every packet whose answer the test knows, and who must get it.
fn probes(wide: &Wide) -> Vec<(Frame, Result<ServiceKey, Outcome>)> {
    let actual = wide.world.lab.kernel.read().unwrap();
    let owner = |frame: &Frame, number| {
        let found = actual.find(wire_address(frame.destination.ip()), number, frame.destination.port());
        found.and_then(|entry| wide.ids.iter().find(|(_, id)| **id == entry.id)).map(|(key, _)| *key)
    };
    let mut probes = Vec::new();
    for vip in NETS.iter().flat_map(|net| net.within.iter().chain(&net.outside)) {
        for (transport, number) in [(SYN, 6), (Transport::Udp, 17), (SCTP, 132)] {
            let ports: &[u16] = if transport == SCTP { &[0] } else { &[80, 7999, 8000, 8050, 8100, 8101] };
            for port in ports {
                let frame = frame(vip, *port, transport);
                let missing = if transport == SCTP { Outcome::OtherProtocol } else { Outcome::NotAService };
                let owner = owner(&frame, number).ok_or(missing);
                probes.push((frame, owner));
            }
        }
    }
    probes
}

#[test]
fn services_come_and_go_beside_others() {
    let keys = NETS.iter().flat_map(|Net { prefix, within: [vip, _, last], .. }| {
        [
            key(prefix, range(8000, 8100), Protocol::Tcp),
            key(prefix, Ports::ANY, Protocol::Any),
            key(vip, range(80, 8050), Protocol::Tcp),
            key(last, Ports::ANY, Protocol::Udp),
        ]
    });
    let keys: Vec<ServiceKey> = keys.collect();
    let mut wide = Wide::new();
    let mut before: Vec<(Frame, Result<ServiceKey, Outcome>)> = probes(&wide);
    let changes = keys.iter().map(|key| (*key, true)).chain(keys.iter().rev().map(|key| (*key, false)));
    for (key, is_new) in changes {
        if is_new {
            wide.add(key)
        } else {
            wide.remove(key)
        }
        let now = probes(&wide);
        for ((frame, owner), (_, earlier)) in now.iter().zip(&before) {
            wide.check(frame, *owner);
            let concerned = [owner, earlier].iter().any(|owner| **owner == Ok(key));
            assert!(concerned || owner == earlier, "{key} disturbed {frame:?}");
        }
        before = now;
    }
    assert!(before.iter().all(|(_, owner)| owner.is_err()));
}

#[test]
fn the_next_agent_adopts_wide_services() {
    let keys = NETS.map(|net| key(net.prefix, range(8000, 8100), Protocol::Tcp));
    let mut wide = Wide::with(&keys);
    let before = wide.world.lab.kernel.read().unwrap();
    wide.world.lab.reload().unwrap();
    assert!(wide.world.lab.kernel.loaded().adopted);
    let after = wide.world.lab.kernel.read().unwrap();
    assert_eq!(after, before);
    assert!(after.routes.is_of(after.services.values()) && !after.routes.groups.is_empty());
    for (frame, owner) in probes(&wide) {
        wide.check(&frame, owner);
    }
}

#[test]
fn rules_that_do_not_fit_are_an_error_with_a_name() {
    let mut lab = Lab::of_size(Sizes { rules: 1, ..SIZES }).unwrap();
    let key = key("203.0.113.1", range(8000, 8100), Protocol::Tcp);
    let error = lab.service(key, 1, 0, SLOTS, Slot::default()).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(DataplaneError::RulesFull)), "{error:#}");
}
