//! QUIC services: which packets go by their connection id and which by the hash of their flow, and what is counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use mesh_common::abi::{BackendEntry, ServiceEntry, flag};
use mesh_common::outcome::Outcome;
use mesh_common::quic::{ConfigKey, Key, Parameters, Routed, ServerIdKey};
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, SIZES};
use mesh_userspace::config::{Protocol, ServiceKey};
use mesh_userspace::dataplane::{Dataplane as _, Op, abi_key};

use crate::frame::{Frame, Transport};
use crate::random::Random;
use crate::world::{SLOTS, Way, assert_same, xdp};

/// Who owns every slot, and who has the server id.
const OWNER: u32 = 1;
const NAMED: u32 = 2;

/// The server id that [`NAMED`] has in the configurations of one pass and of none.
const SERVER_ID: [u8; 3] = [0x0a, 0x1b, 0x2c];

/// The key of the draft's examples (appendix B.2).
const KEY: u128 = 0x8f95_f092_4576_5f80_2569_34e5_0c66_207f;

/// A connection id, how it is read, and the server id in it.
#[derive(Clone, Debug)]
pub(crate) struct Id {
    about: &'static str,
    pub(crate) parameters: Parameters,
    pub(crate) server_id: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

fn parameters(server_id: usize, nonce: usize, key: Option<Key>) -> Parameters {
    let [server_id_length, nonce_length] = [server_id, nonce].map(|length| u8::try_from(length).unwrap());
    Parameters { server_id_length, nonce_length, key }
}

pub(crate) fn plain(rotation: u8, nonce: &[u8]) -> Id {
    let bytes = [&[rotation << 5 | 0x11], SERVER_ID.as_slice(), nonce].concat();
    let parameters = parameters(SERVER_ID.len(), nonce.len(), None);
    Id { about: "plain", parameters, server_id: SERVER_ID.to_vec(), bytes }
}

fn one_pass(rotation: u8, nonce: [u8; 13]) -> Id {
    let key = Key(KEY.to_be_bytes());
    let block: [u8; 16] = [SERVER_ID.as_slice(), &nonce].concat().try_into().unwrap();
    let mut block = block.into();
    Aes128::new(&key.0.into()).encrypt_block(&mut block);
    let bytes = [&[rotation << 5 | 0x0f], block.as_slice()].concat();
    let parameters = parameters(SERVER_ID.len(), nonce.len(), Some(key));
    Id { about: "one pass", parameters, server_id: SERVER_ID.to_vec(), bytes }
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// An example of the draft's (appendix B.2).
fn four_passes(about: &'static str, server_id: &str, nonce: usize, id: &str) -> Id {
    let server_id = hex(server_id);
    let parameters = parameters(server_id.len(), nonce, Some(Key(KEY.to_be_bytes())));
    Id { about, parameters, server_id, bytes: hex(id) }
}

/// Every way to write a server id.
fn ids() -> Vec<Id> {
    vec![
        plain(0, &[7; 8]),
        plain(6, &[0xff; 16]),
        one_pass(0, [9; 13]),
        one_pass(3, [0; 13]),
        four_passes("three passes of four", "ed793a", 4, "0720b1d07b359d3c"),
        four_passes("four passes", "ed793a51d49b8f5fab65", 5, "2fcc381bc74cb4fbad2823a3d1f8fed2"),
        four_passes("19 bytes", "ed793a51d49b8f5fab", 9, "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc"),
    ]
}

fn rotation(id: &Id) -> u32 {
    u32::from(id.bytes[0] >> 5)
}

/// A packet with a short header (RFC 9000 §17.3).
pub(crate) fn short(id: &[u8]) -> Vec<u8> {
    [&[0x43], id].concat()
}

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;
/// One that is reserved for what nobody knows (RFC 9000 §15).
const UNKNOWN: u32 = 0x1a2a_3a4a;

/// A packet with a long header (RFC 8999 §5.1) and a source connection id of eight bytes.
pub(crate) fn long(kind: u8, version: u32, id: &[u8]) -> Vec<u8> {
    let length = u8::try_from(id.len()).unwrap();
    [&[0xc0 | kind << 4], version.to_be_bytes().as_slice(), &[length], id, &[8], &[0xee; 8]].concat()
}

/// Packets whose id the server has chosen, or may have.
fn chosen_by_server(id: &[u8]) -> [(&'static str, Vec<u8>); 5] {
    [
        ("short", short(id)),
        ("Handshake of version 1", long(2, V1, id)),
        ("Handshake of version 2", long(3, V2, id)),
        ("kind 0 of an unknown version", long(0, UNKNOWN, id)),
        ("kind 1 of an unknown version", long(1, UNKNOWN, id)),
    ]
}

const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

fn key(vip: &str) -> ServiceKey {
    ServiceKey::exact(vip.parse().unwrap(), 443, Protocol::Quic)
}

/// A backend reached in a way; all but [`OWNER`] have an Ethernet address of their own.
fn entry(way: Way, id: u32) -> BackendEntry {
    let mut entry = way.entry();
    entry.destination_mac[4] = u8::try_from(id - OWNER).unwrap();
    entry
}

/// A lab with a QUIC service in each family: ids 1 and 2, in the order of [`VIPS`].
struct World {
    lab: Lab,
    way: Way,
}

impl World {
    fn new(way: Way) -> Self {
        let mut lab = Lab::new().unwrap();
        for id in [OWNER, NAMED] {
            lab.backend(id, entry(way, id)).unwrap();
        }
        for (id, vip) in (1..).zip(VIPS) {
            lab.slots(id * SLOTS, SLOTS, Slot::steady(OWNER)).unwrap();
            let entry = ServiceEntry {
                key: abi_key(key(vip)),
                id,
                base: id * SLOTS,
                size: SLOTS,
                flags: flag::QUIC,
                ..Default::default()
            };
            lab.kernel.apply(&Op::AddService(entry)).unwrap();
        }
        Self { lab, way }
    }

    /// A world in which the id names [`NAMED`].
    fn knowing(way: Way, id: &Id) -> Self {
        let mut world = Self::new(way);
        world.learn(id);
        world
    }

    fn learn(&mut self, id: &Id) {
        for service in 1..=2 {
            let config = ConfigKey { service, rotation: rotation(id) };
            let server_id = ServerIdKey::new(service, id.bytes[0] >> 5, &id.server_id);
            self.apply(&Op::WriteServerId { key: server_id, backend: NAMED });
            self.apply(&Op::WriteQuicConfig { key: config, parameters: id.parameters });
        }
    }

    fn apply(&mut self, op: &Op) {
        self.lab.kernel.apply(op).unwrap();
    }

    /// Runs a packet, and compares every byte that comes out and every counter that moves.
    fn check(&mut self, about: &str, frame: &Frame, backend: u32, routed: Option<(Routed, u32)>) {
        let about = format!("{about}, {} to {}", frame.source, frame.destination);
        let before = (self.counters(), self.lab.kernel.routed().unwrap());
        let verdict = self.lab.run(&frame.bytes()).unwrap();
        let after = (self.counters(), self.lab.kernel.routed().unwrap());
        assert_eq!(verdict.moved, BTreeMap::from([(Outcome::Transmitted, 1)]), "{about}");
        assert_eq!(verdict.action, xdp::TX, "{about}");
        let moved: Vec<_> =
            after.1.iter().filter(|(way, n)| before.1[*way] != **n).map(|(way, _)| *way).collect();
        assert_eq!(moved, Vec::from_iter(routed), "{about}");
        let sum = |counters: &BTreeMap<_, u64>| counters.values().sum::<u64>();
        assert_eq!(sum(&after.1) - sum(&before.1), u64::from(routed.is_some()), "{about}");
        let packets = [OWNER, NAMED].map(|id| after.0[&id] - before.0[&id]);
        assert_eq!(packets, [OWNER, NAMED].map(|id| u64::from(id == backend)), "{about}");
        let mut expected = self.way.expected(frame);
        expected[..6].copy_from_slice(&entry(self.way, backend).destination_mac);
        assert_same(&about, &verdict.packet, &expected);
    }

    fn counters(&self) -> BTreeMap<u32, u64> {
        [OWNER, NAMED].map(|id| (id, self.lab.counters(id).unwrap().packets())).into()
    }

    /// Checks a payload from two addresses of both families' clients.
    fn check_all(&mut self, about: &str, payload: &[u8], backend: u32, routed: Option<(Routed, u32)>) {
        for frame in frames(payload) {
            self.check(about, &frame, backend, routed);
        }
    }

    fn check_named(&mut self, id: &Id) {
        for (about, payload) in chosen_by_server(&id.bytes) {
            let about = format!("{}, {about}", id.about);
            self.check_all(&about, &payload, NAMED, Some((Routed::ConnectionId, rotation(id))));
        }
    }
}

/// A datagram of each family to the VIP, and the same after the client's address and port changed.
fn frames(payload: &[u8]) -> impl Iterator<Item = Frame> {
    let clients = ["198.51.100.7", "203.0.113.99", "2001:db8:1::7", "2001:db8:2::99"];
    let frame = |(port, client): (u16, &str)| {
        let client: IpAddr = client.parse().unwrap();
        let vip = VIPS[usize::from(client.is_ipv6())].parse().unwrap();
        let frame = Frame::new(SocketAddr::new(client, port), SocketAddr::new(vip, 443), Transport::Udp);
        Frame { content: payload.to_vec(), ..frame }
    };
    (4000..).zip(clients).map(frame).collect::<Vec<_>>().into_iter()
}

/// What the test says of a packet that goes by its hash.
const fn by_hash(reason: Routed, rotation: u32) -> (u32, Option<(Routed, u32)>) {
    (OWNER, Some((reason, rotation)))
}

#[test]
fn a_connection_id_names_its_backend_whatever_the_clients_address() {
    for way in Way::ALL {
        for id in ids() {
            World::knowing(way, &id).check_named(&id);
        }
    }
}

#[test]
fn what_the_server_adds_to_an_id_and_what_follows_it_change_nothing() {
    let id = one_pass(2, [1; 13]);
    let mut world = World::knowing(Way::L2, &id);
    let longer = Id { bytes: [id.bytes.as_slice(), &[0xaa; 3]].concat(), ..id.clone() };
    world.check_named(&longer);
    for frame in frames(&short(&id.bytes)) {
        for payload in [1, 1000] {
            let frame = Frame { payload, ..frame.clone() };
            world.check("with data", &frame, NAMED, Some((Routed::ConnectionId, 2)));
        }
    }
}

#[test]
fn packets_of_several_buffers_and_with_options_go_by_their_id() {
    let id = one_pass(2, [1; 13]);
    let mut world = World::knowing(Way::L2, &id);
    world.lab.backend(NAMED, BackendEntry { room: 9100, ..entry(Way::L2, NAMED) }).unwrap();
    for frame in frames(&long(2, V1, &id.bytes)) {
        let frame = Frame { payload: 8900, ..frame };
        world.check("several buffers", &frame, NAMED, Some((Routed::ConnectionId, 2)));
    }
    for options in (4..=40).step_by(4) {
        let frame = Frame { options, ..frames(&short(&id.bytes)).next().unwrap() };
        world.check("options", &frame, NAMED, Some((Routed::ConnectionId, 2)));
    }
}

#[test]
fn initial_and_0rtt_packets_go_by_their_hash_whatever_id_the_client_chose() {
    let id = plain(0, &[7; 8]);
    let mut world = World::knowing(Way::L2, &id);
    let (backend, routed) = by_hash(Routed::Initial, 0);
    for (kind, version) in [(0, V1), (1, V1), (1, V2), (2, V2)] {
        let payload = long(kind, version, &id.bytes);
        world.check_all(&format!("kind {kind} of {version:#x}"), &payload, backend, routed);
    }
}

#[test]
fn ids_of_no_configuration_go_by_their_hash() {
    let id = one_pass(0, [5; 13]);
    let mut world = World::knowing(Way::L2, &id);
    for codepoint in 1..=7 {
        let mut bytes = id.bytes.clone();
        bytes[0] = codepoint << 5 | 0x0f;
        let (backend, routed) = by_hash(Routed::Unroutable, codepoint.into());
        for (about, payload) in chosen_by_server(&bytes) {
            world.check_all(about, &payload, backend, routed);
        }
    }
}

#[test]
fn server_ids_that_nobody_has_go_by_their_hash() {
    for id in ids() {
        let mut world = World::knowing(Way::L2, &id);
        for service in 1..=2 {
            let key = ServerIdKey::new(service, id.bytes[0] >> 5, &id.server_id);
            world.apply(&Op::RemoveServerId(key));
            // The same server id in another configuration, and another one in this.
            let elsewhere = ServerIdKey { rotation: (key.rotation + 1) % 7, ..key };
            let other = ServerIdKey { id: [key.id[0] ^ 1 << 40, key.id[1]], ..key };
            for key in [elsewhere, other] {
                world.apply(&Op::WriteServerId { key, backend: NAMED });
            }
        }
        let (backend, routed) = by_hash(Routed::UnknownId, rotation(&id));
        world.check_all(id.about, &short(&id.bytes), backend, routed);
    }
}

#[test]
fn a_dead_backend_keeps_no_connection_and_takes_them_again_once_it_lives() {
    let id = one_pass(0, [5; 13]);
    let mut world = World::knowing(Way::L2, &id);
    world.lab.backend(NAMED, BackendEntry { alive: 0, ..entry(Way::L2, NAMED) }).unwrap();
    let (backend, routed) = by_hash(Routed::DeadBackend, 0);
    world.check_all("dead", &short(&id.bytes), backend, routed);
    world.lab.backend(NAMED, entry(Way::L2, NAMED)).unwrap();
    world.check_named(&id);
}

#[test]
fn what_is_too_short_goes_by_its_hash_and_padding_is_not_read() {
    let id = four_passes("three passes of four", "ed793a", 4, "0720b1d07b359d3c");
    let mut world = World::knowing(Way::L2, &id);
    for (about, whole, least) in [("short", short(&id.bytes), 9), ("long", long(2, V1, &id.bytes), 14)] {
        for length in 0..=whole.len() {
            let (backend, routed) = match length {
                _ if length >= least => (NAMED, Some((Routed::ConnectionId, 0))),
                _ => by_hash(Routed::Malformed, 0),
            };
            // What Ethernet pads would complete the id, were it read.
            for frame in frames(&whole[..length]).map(|frame| Frame { padding: 40, ..frame }) {
                world.check(&format!("{about}, {length} bytes"), &frame, backend, routed);
            }
        }
    }
}

#[test]
fn a_long_header_says_how_long_its_id_is() {
    let id = Id { bytes: [one_pass(4, [5; 13]).bytes.as_slice(), &[0; 2]].concat(), ..one_pass(4, [5; 13]) };
    let mut world = World::knowing(Way::L2, &id);
    for length in 0..=u8::MAX {
        let mut payload = long(2, V1, &id.bytes);
        payload[5] = length;
        // 17 bytes are needed; there are 28 from the id on.
        let (backend, routed) = match length {
            0 | 29.. => by_hash(Routed::Malformed, 0),
            1..17 => by_hash(Routed::Malformed, 4),
            17..=28 => (NAMED, Some((Routed::ConnectionId, 4))),
        };
        world.check(&format!("length {length}"), &frames(&payload).next().unwrap(), backend, routed);
    }
}

#[test]
fn configurations_rotate_without_losing_a_connection() {
    let (old, new) = (plain(0, &[7; 8]), one_pass(1, [8; 13]));
    let mut world = World::knowing(Way::L2, &old);
    world.learn(&new);
    world.check_named(&old);
    world.check_named(&new);
    for service in 1..=2 {
        world.apply(&Op::RemoveQuicConfig(ConfigKey { service, rotation: 0 }));
    }
    let (backend, routed) = by_hash(Routed::Unroutable, 0);
    world.check_all("retired", &short(&old.bytes), backend, routed);
    world.check_named(&new);
    // The codepoint again, with another key.
    let again = one_pass(0, [3; 13]);
    world.learn(&again);
    world.check_named(&again);
    world.check_named(&new);
}

#[test]
fn a_service_becomes_quic_and_ceases_while_it_stands() {
    let id = plain(0, &[7; 8]);
    let mut world = World::knowing(Way::L2, &id);
    let services = world.lab.kernel.read().unwrap().services;
    for (flags, backend, routed) in
        [(0, OWNER, None), (flag::QUIC, NAMED, Some((Routed::ConnectionId, 0))), (0, OWNER, None)]
    {
        for entry in services.values() {
            world.apply(&Op::AddService(ServiceEntry { flags, ..*entry }));
        }
        world.check_all(&format!("flags {flags}"), &short(&id.bytes), backend, routed);
    }
    for entry in services.values() {
        world.apply(&Op::RemoveService(entry.key));
    }
    let verdict = world.lab.run(&frames(&short(&id.bytes)).next().unwrap().bytes()).unwrap();
    assert_eq!(verdict.moved, BTreeMap::from([(Outcome::NotAService, 1)]), "no second entry is left");
}

#[test]
fn only_what_goes_by_its_hash_is_recorded() {
    let id = one_pass(0, [5; 13]);
    let mut world = World::knowing(Way::L2, &id);
    world.lab.slots(SLOTS, 2 * SLOTS, Slot::new(OWNER, OWNER, true, true)).unwrap();
    world.check_named(&id);
    assert_eq!(world.lab.flows().unwrap(), vec![]);
    let (backend, routed) = by_hash(Routed::Initial, 0);
    world.check_all("Initial", &long(0, V1, &id.bytes), backend, routed);
    assert_eq!(world.lab.flows().unwrap().len(), 4);
}

#[test]
fn what_is_written_is_read_back_with_its_keys() {
    let mut world = World::new(Way::L2);
    let mut written = world.lab.kernel.read().unwrap();
    let ids = ids();
    for (service, id) in (1..).zip(&ids) {
        let (key, rotation) = (ConfigKey { service, rotation: rotation(id) }, id.bytes[0] >> 5);
        let server_id = ServerIdKey::new(service, rotation, &id.server_id);
        for op in [
            Op::WriteQuicConfig { key, parameters: id.parameters },
            Op::WriteServerId { key: server_id, backend: OWNER },
            Op::WriteServerId { key: server_id, backend: NAMED },
        ] {
            world.apply(&op);
            written.apply(&op);
        }
    }
    assert_eq!((written.quic.len(), written.server_ids.len()), (ids.len(), ids.len()));
    assert_eq!(world.lab.kernel.read().unwrap(), written);
    for (key, id) in written.quic.clone().into_keys().zip(written.server_ids.clone().into_keys()) {
        for op in [Op::RemoveQuicConfig(key), Op::RemoveServerId(id), Op::RemoveServerId(id)] {
            world.apply(&op);
            written.apply(&op);
        }
    }
    assert_eq!(world.lab.kernel.read().unwrap(), written);
    assert!(written.quic.is_empty() && written.server_ids.is_empty());
}

#[test]
fn every_backend_of_the_limits_has_room_for_a_server_id_in_every_configuration() {
    let mut world = World::new(Way::L2);
    for (backend, rotation) in (1..=SIZES.backends).flat_map(|id| (0..7).map(move |r| (id, r))) {
        let key = ServerIdKey::new(1, rotation, &backend.to_be_bytes());
        world.apply(&Op::WriteServerId { key, backend });
    }
    let one_more = Op::WriteServerId { key: ServerIdKey::new(9, 0, &[9]), backend: 1 };
    let error = world.lab.kernel.apply(&one_more).unwrap_err();
    assert!(error.to_string().contains("map SERVER_IDS: write failed"), "{error}");
}

/// What becomes of a payload where [`plain`] ids of rotation 0 with nonces of 8 bytes are known, told once more.
fn told_again(payload: &[u8]) -> (u32, Option<(Routed, u32)>) {
    let id = match *payload {
        [] | [_] => return by_hash(Routed::Malformed, 0),
        [0..=0x7f, ref id @ ..] => id,
        [first, a, b, c, d, length, _, ..] => {
            let version = u32::from_be_bytes([a, b, c, d]);
            if matches!((version, first >> 4 & 3), (V1, 0 | 1) | (V2, 1 | 2)) {
                return by_hash(Routed::Initial, 0);
            }
            match payload[6..].get(..usize::from(length)) {
                Some(id @ [_, ..]) => id,
                _ => return by_hash(Routed::Malformed, 0),
            }
        }
        _ => return by_hash(Routed::Malformed, 0),
    };
    match (id[0] >> 5, id) {
        (0, [_, a, b, c, ..]) if id.len() >= 12 => match [*a, *b, *c] {
            SERVER_ID => (NAMED, Some((Routed::ConnectionId, 0))),
            _ => by_hash(Routed::UnknownId, 0),
        },
        (0, _) => by_hash(Routed::Malformed, 0),
        (rotation, _) => by_hash(Routed::Unroutable, rotation.into()),
    }
}

#[test]
fn every_payload_finds_a_backend_by_its_id_or_by_its_hash() {
    let id = plain(0, &[7; 8]);
    let (mut world, mut random) = (World::knowing(Way::L2, &id), Random(7));
    let mut whole: Vec<_> = chosen_by_server(&id.bytes).into_iter().map(|(_, payload)| payload).collect();
    whole.extend([long(0, V1, &id.bytes), long(1, V2, &id.bytes)]);
    let mut seen = BTreeMap::<Routed, u32>::new();
    for number in 0..4000 {
        let mut payload = random.pick(&whole);
        for _ in 0..random.below(3) {
            let at = random.below(payload.len());
            match random.below(3) {
                0 => payload[at] ^= 1 << random.below(8),
                1 => payload[at] = random.byte(),
                _ => payload.truncate(at.max(1)),
            }
        }
        let (backend, routed) = told_again(&payload);
        *seen.entry(routed.unwrap().0).or_default() += 1;
        let frame = frames(&payload).nth(number % 4).unwrap();
        world.check(&format!("{payload:02x?}"), &frame, backend, routed);
    }
    // Nobody's backend is dead here.
    assert_eq!(seen.len(), Routed::ALL.len() - 1, "{seen:?}");
    assert!(seen.values().all(|packets| *packets > 20), "{seen:?}");
}

#[test]
fn errors_about_a_connection_go_by_its_flow() {
    let id = plain(0, &[7; 8]);
    let mut world = World::knowing(Way::L2, &id);
    let answer =
        Frame::new("192.0.2.10:443".parse().unwrap(), "198.51.100.7:4000".parse().unwrap(), Transport::Udp);
    let quoted = &Frame { content: short(&id.bytes), ..answer }.bytes()[14..];
    let mut error = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x11], [2, 0, 0, 0, 0, 0xaa])
        .ipv4([203, 0, 113, 1], [192, 0, 2, 10], 9)
        .icmpv4(etherparse::Icmpv4Type::TimeExceeded(
            etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit,
        ))
        .write(&mut error, quoted)
        .unwrap();
    let before = world.lab.kernel.routed().unwrap();
    let verdict = world.lab.run(&error).unwrap();
    assert_eq!(verdict.moved, BTreeMap::from([(Outcome::Transmitted, 1)]));
    assert_eq!(verdict.packet[..6], entry(Way::L2, OWNER).destination_mac);
    assert_eq!(world.lab.kernel.routed().unwrap(), before);
}

#[test]
fn a_server_id_of_an_absent_backend_is_that_of_a_dead_one() {
    let id = plain(0, &[7; 8]);
    let mut world = World::knowing(Way::L2, &id);
    world.apply(&Op::RemoveBackend { id: NAMED });
    let (backend, routed) = by_hash(Routed::DeadBackend, 0);
    world.check_all("absent", &short(&id.bytes), backend, routed);
}
