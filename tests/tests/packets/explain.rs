//! Explanations: what is explained is what then happens, and explaining changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use memmap2::MmapOptions;
use mesh_common::abi::{BackendEntry, ServiceEntry, flag};
use mesh_common::notes::{Notes, step};
use mesh_common::outcome::Outcome;
use mesh_common::quic::{ConfigKey, ServerIdKey};
use mesh_common::schedule::{LEAST_CONNECTIONS, MAGLEV, RANDOM, ROUND_ROBIN, SOURCE, compress};
use mesh_common::slot::Slot;
use mesh_tests::lab::{INGRESS, Lab};
use mesh_userspace::config::{Admittance, Ports, Protocol, ServiceKey};
use mesh_userspace::dataplane::kernel::{Explained, Explainer};
use mesh_userspace::dataplane::{Dataplane as _, Op, abi_key};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::echo;
use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::guard;
use crate::icmp::{answer_to, error, kinds};
use crate::quic;
use crate::random::Random;
use crate::screen;
use crate::tracked::{DEAD, NEW, OLD, OTHER, lab};
use crate::vlan::{TAGS, tagged};
use crate::world::{SLOTS, Way, assert_same, opening, services};

/// Flows that are explained, unless `MESHLB_EXPLANATIONS` says another number.
const FLOWS: usize = 10_000;

/// Flows between two changes of the maps.
const STRETCH: usize = 100;

const SCHEDULERS: [u32; 5] = [MAGLEV, SOURCE, RANDOM, ROUND_ROBIN, LEAST_CONNECTIONS];

/// Services of one port of one address have the ids 1 to 4, wide ones and those of QUIC these.
const ANY: u32 = 5;
const RANGE: u32 = 6;
const QUIC: u32 = 7;

/// A lab with services of all kinds, whose packets can be explained.
pub(crate) struct World {
    pub(crate) lab: Lab,
    explainer: Explainer,
    pub(crate) random: Random,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        // One turn after the other is taken on the same processor.
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
        let mut lab = lab();
        for (id, key) in [(ANY, any()), (RANGE, range())] {
            lab.service(key, id, id * SLOTS, SLOTS, Slot::steady(NEW)).unwrap();
        }
        lab.reject(services()[1]).unwrap();
        learn_quic(&mut lab);
        let explainer = Explainer::load(lab.kernel.recipe()).unwrap();
        Self { lab, explainer, random: Random(seed) }
    }

    /// Slots change hands, backends die, are far away or near, and schedulers are others.
    pub(crate) fn change(&mut self, scheduler: u32) {
        let random = &mut self.random;
        // As the agent has it, no slot names a backend that is dead, or nobody beside somebody; records may.
        let mut owners = vec![OLD, NEW, OTHER, NEW];
        for id in [OLD, NEW, OTHER, DEAD] {
            let alive = u8::from(id != DEAD || random.chance(2));
            owners.extend((alive != 0).then_some(id));
            let ifindex = random.pick(&[INGRESS, INGRESS + 1]);
            let room = random.pick(&[1600, 1600, 1600, 120, 0]);
            let way = random.pick(&Way::ALL);
            let mut entry = BackendEntry { alive, ifindex, room, weight: compress(100), ..way.entry() };
            entry.destination_mac[5] = u8::try_from(id).unwrap();
            self.lab.backend(id, BackendEntry { service: 1, ..entry }).unwrap();
        }
        for index in SLOTS..(QUIC + 1) * SLOTS {
            let (current, untracked) = (random.pick(&owners), random.pick(&owners));
            let slot = match random.below(3) {
                _ if random.chance(20) => Slot::default(),
                0 => Slot::steady(current),
                1 => Slot::new(current, untracked, true, random.chance(2)),
                _ => Slot::new(current, current, true, random.chance(2)),
            };
            self.lab.kernel.apply(&Op::WriteSlot { index, slot }).unwrap();
        }
        for key in services() {
            self.lab.schedule(key, scheduler, 0).unwrap();
        }
        self.lab.schedule(services()[2], scheduler, 20).unwrap();
        let guarded = services()[3];
        if self.random.chance(3) {
            let client = opening(&guarded).source.ip().to_string();
            let (verdict, half) =
                (self.random.pick(&[Admittance::Deny, Admittance::Allow]), self.random.chance(2));
            self.lab.guard(&[(guarded, guard::of(&[(&client, verdict)]))], half.into()).unwrap();
        }
    }

    /// A packet of any kind of a flow, often of one that there was.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let kind = random.below(26);
        let service = random.pick(&services());
        let flags = random.pick(&[Flags::Syn, Flags::Syn, Flags::Ack, Flags::Ack, Flags::FinAck, Flags::Rst]);
        let mut frame = opening(&service);
        if let Transport::Tcp(_) = frame.transport {
            frame.transport = Transport::Tcp(flags);
        }
        frame.source.set_port(1024 + u16::try_from(random.below(400)).unwrap());
        frame.payload = random.pick(&[0, 10, 200]);
        frame.hops = random.pick(&[64, 64, 64, 64, 1]);
        match kind {
            0..=9 => frame.bytes(),
            10 => tagged(&frame.bytes(), random.pick(&TAGS)),
            11 => Frame { options: 8, extensions: vec![(60, 16)], ..frame }.bytes(),
            12..=14 => {
                // The backends are those of this service, which matters to later fragments only.
                let mut frame = opening(&services()[0]);
                if random.chance(6) {
                    frame.destination.set_ip([192, 0, 2, 99].into());
                }
                let id = u16::try_from(random.below(2)).unwrap();
                let fragments = Frame { payload: 100, id, ..frame }.fragments(64);
                let overlapping = screen::at_offset(&fragments[1], 16);
                random.pick(&[fragments, vec![overlapping]].concat())
            }
            15 => {
                let (kind4, kind6) = random.pick(&kinds());
                error(service.vip.addr(), &answer_to(&frame).bytes()[ETHERNET..], kind4, kind6)
            }
            16 => {
                frame.destination.set_port(81);
                frame.bytes()
            }
            17 => echo::request(service.vip.addr(), 4),
            18 => frame.bytes()[..ETHERNET + 26].to_vec(),
            19 => {
                Frame { transport: Transport::Other(132), payload: 40, ..wide(frame, any(), random) }.bytes()
            }
            20 => Frame { transport: Transport::Udp, ..wide(frame, any(), random) }.bytes(),
            21 => Frame { transport: Transport::Tcp(flags), ..wide(frame, range(), random) }.bytes(),
            22 => {
                let mut bytes = frame.bytes();
                // Another type; where the length stands; another protocol, if it is IPv4.
                bytes[random.pick(&[ETHERNET - 1, ETHERNET + 2, ETHERNET + 9])] = 0x06;
                bytes
            }
            23 | 24 => screen::odd(&frame, random),
            _ => {
                let id = random.pick(&[quic::plain(2, &[7; 8]), quic::plain(3, &[7; 8])]);
                let content = random.pick(&[quic::short(&id.bytes), quic::long(0, 1, &id.bytes), vec![0x43]]);
                let vip = quic_service().vip.addr();
                let client = SocketAddr::new([198, 51, 100, 8].into(), frame.source.port());
                Frame { content, ..Frame::new(client, SocketAddr::new(vip, 443), Transport::Udp) }.bytes()
            }
        }
    }

    fn explain(&mut self, packet: &[u8]) -> Explained {
        self.explainer.explain(packet, INGRESS).unwrap()
    }
}

fn key(vip: &str, ports: Ports, protocol: Protocol) -> ServiceKey {
    ServiceKey { vip: vip.parse().unwrap(), ports, protocol }
}

fn any() -> ServiceKey {
    key("203.0.112.0/23", Ports::ANY, Protocol::Any)
}

fn range() -> ServiceKey {
    key("2001:db8:5::/64", Ports::range(8000, 8100).unwrap(), Protocol::Tcp)
}

fn quic_service() -> ServiceKey {
    ServiceKey::exact([192, 0, 2, 20].into(), 443, Protocol::Quic)
}

/// A frame to somewhere in a wide service.
fn wide(frame: Frame, to: ServiceKey, random: &mut Random) -> Frame {
    let last = random.byte();
    let (client, vip): (IpAddr, IpAddr) = match to.vip.addr() {
        IpAddr::V4(_) => ([198, 51, 100, 7].into(), [203, 0, 113, last].into()),
        IpAddr::V6(_) => {
            ("2001:db8:1::7".parse().unwrap(), [0x2001, 0xdb8, 5, 0, 0, 0, 0, u16::from(last)].into())
        }
    };
    let port = 8000 + u16::try_from(random.below(120)).unwrap();
    Frame {
        source: SocketAddr::new(client, frame.source.port()),
        destination: SocketAddr::new(vip, port),
        ..frame
    }
}

fn learn_quic(lab: &mut Lab) {
    let id = quic::plain(2, &[7; 8]);
    let entry = ServiceEntry {
        key: abi_key(quic_service()),
        id: QUIC,
        base: QUIC * SLOTS,
        size: SLOTS,
        flags: flag::QUIC,
        ..ServiceEntry::default()
    };
    let server = ServerIdKey::new(QUIC, 2, &id.server_id);
    let config = ConfigKey { service: QUIC, rotation: 2 };
    for op in [
        Op::WriteQuicConfig { key: config, parameters: id.parameters },
        Op::WriteServerId { key: server, backend: OTHER },
        Op::AddService(entry),
    ] {
        lab.kernel.apply(&op).unwrap();
    }
}

fn outcome(notes: &Notes) -> Outcome {
    Outcome::ALL[usize::try_from(notes.outcome).unwrap()]
}

/// Whether chance has a say that is not that of a processor's next turn.
fn is_by_chance(notes: &Notes, scheduler: u32) -> bool {
    notes.has(step::PICKED) && scheduler != ROUND_ROBIN
}

#[test]
fn what_is_explained_is_what_the_attached_program_then_does() {
    let flows = env::var("MESHLB_EXPLANATIONS").map_or(FLOWS, |number| number.parse().unwrap());
    let mut world = World::new(1);
    let (mut seen, mut drawn) = (BTreeMap::<Outcome, usize>::new(), 0);
    let mut steps = 0;
    for flow in 0..flows {
        let scheduler = SCHEDULERS[flow * SCHEDULERS.len() / flows];
        if flow % STRETCH == 0 {
            world.change(scheduler);
        }
        let packet = world.packet();
        let Explained { notes, output } = world.explain(&packet);
        let verdict = world.lab.run(&packet).unwrap();
        let about = format!("flow {flow}, scheduler {scheduler}, {packet:02x?}, {notes:#?}");
        assert_eq!(verdict.moved.values().sum::<u64>(), 1, "{about}");
        let real = *verdict.moved.keys().next().unwrap();
        *seen.entry(real).or_default() += 1;
        steps |= notes.steps;
        if is_by_chance(&notes, scheduler) {
            drawn += 1;
            continue;
        }
        assert_eq!(outcome(&notes), real, "{about}");
        assert_same(&about, &verdict.packet, &output);
    }
    // The flows were of all kinds.
    let missing: Vec<_> = Outcome::ALL.iter().filter(|outcome| !seen.contains_key(outcome)).collect();
    let elsewhere = [
        // Of translation, which has a test of its own.
        Outcome::ReplyTransmitted,
        Outcome::ReplyRedirected,
        Outcome::NotConnected,
        Outcome::SynCookie,
        Outcome::Flooded,
        Outcome::PortsExhausted,
        Outcome::ConnectionsExhausted,
        Outcome::Untranslatable,
        Outcome::OtherProtocol,
        Outcome::TooManyHeaders,
        Outcome::EchoLimited,
        Outcome::NoHeadroom,
        Outcome::Unhandled,
    ];
    assert!(missing.iter().all(|outcome| elsewhere.contains(outcome)), "never: {missing:?}");
    assert_eq!(steps, step::ENDED * 2 - 1, "steps that were never taken");
    assert!(drawn > 0 && drawn < flows / 4, "{drawn} were drawn");
}

/// What is drawn is drawn among those whom the slots name.
#[test]
fn what_is_drawn_is_one_of_those_that_may_be() {
    let mut world = World::new(2);
    for scheduler in [RANDOM, LEAST_CONNECTIONS] {
        for id in [OLD, NEW, OTHER] {
            let mut entry = Way::L2.entry();
            entry.destination_mac[5] = u8::try_from(id).unwrap();
            world.lab.backend(id, BackendEntry { weight: compress(1), ..entry }).unwrap();
        }
        let key = services()[0];
        for (index, owner) in (SLOTS..).zip([OLD, NEW, OTHER, OLD, NEW, OTHER, OLD]) {
            let slot = Slot::new(owner, owner, true, true);
            world.lab.kernel.apply(&Op::WriteSlot { index, slot }).unwrap();
        }
        world.lab.schedule(key, scheduler, 0).unwrap();
        let mut picked = BTreeSet::new();
        for _ in 0..100 {
            let Explained { notes, output } = world.explain(&opening(&key).bytes());
            assert!(notes.has(step::PICKED) && notes.picked == notes.journey.backend);
            assert_eq!(u32::from(output[5]), notes.picked);
            assert_eq!(notes.has(step::COMPARED), scheduler == LEAST_CONNECTIONS);
            assert!(!notes.has(step::COMPARED) || notes.compared.contains(&notes.picked));
            picked.insert(notes.picked);
        }
        assert_eq!(picked, [OLD, NEW, OTHER].into());
    }
}

/// Every map that a program writes to, byte for byte.
fn contents(lab: &Lab) -> BTreeMap<&'static str, Vec<u64>> {
    let pinned = |name: &str| MapData::from_pin(lab.pins().map(name)).unwrap();
    let mapped = |name: &'static str| {
        let map = pinned(name);
        let info = map.info().unwrap();
        let stride = info.value_size().div_ceil(8) * 8;
        let bytes = usize::try_from(u64::from(stride) * u64::from(info.max_entries())).unwrap();
        let memory = MmapOptions::new().len(bytes).map_raw_read_only(map.fd().as_fd().as_raw_fd()).unwrap();
        // SAFETY: the mapping has so many bytes, begins at a page, and nobody writes meanwhile.
        #[expect(unsafe_code, reason = "mapped memory is reached through raw pointers")]
        let words = unsafe { std::slice::from_raw_parts(memory.as_ptr().cast::<u64>(), bytes / 8) };
        (name, words.to_vec())
    };
    fn per_cpu<const N: usize>(name: &'static str, map: MapData) -> (&'static str, Vec<u64>)
    where
        [u64; N]: aya::Pod,
    {
        let map: PerCpuArray<_, [u64; N]> = PerCpuArray::try_from(Map::PerCpuArray(map)).unwrap();
        let values = (0..map.len()).flat_map(|index| map.get(&index, 0).unwrap().to_vec());
        (name, values.flatten().collect())
    }
    let fragments: HashMap<_, [u64; 5], [u64; 4]> =
        HashMap::try_from(Map::LruHashMap(pinned("FRAGMENTS"))).unwrap();
    let fragments: BTreeMap<_, _> = fragments.iter().map(Result::unwrap).collect();
    let fragments = fragments.iter().flat_map(|(key, value)| key.iter().chain(value).copied()).collect();
    BTreeMap::from([
        mapped("TABLES"),
        mapped("CLIENTS"),
        mapped("LOADS"),
        per_cpu::<8>("BACKEND_COUNTERS", pinned("BACKEND_COUNTERS")),
        per_cpu::<1>("OUTCOMES", pinned("OUTCOMES")),
        per_cpu::<1>("QUIC_PACKETS", pinned("QUIC_PACKETS")),
        per_cpu::<1>("TURNS", pinned("TURNS")),
        per_cpu::<34>("JOURNEY", pinned("JOURNEY")),
        ("FRAGMENTS", fragments),
    ])
}

#[test]
fn explaining_changes_no_map() {
    let mut world = World::new(3);
    let mut steps = 0;
    for scheduler in SCHEDULERS {
        world.change(scheduler);
        // So that there are records to find.
        for _ in 0..STRETCH {
            let packet = world.packet();
            world.lab.send(&packet).unwrap();
        }
        let (before, tables) = (contents(&world.lab), world.lab.kernel.read().unwrap());
        for _ in 0..4 * STRETCH {
            let packet = world.packet();
            steps |= world.explain(&packet).notes.steps;
        }
        for (name, words) in contents(&world.lab) {
            let at = words.iter().zip(&before[name]).position(|(now, then)| now != then);
            assert!(at.is_none() && words.len() == before[name].len(), "{name} changed at word {at:?}");
        }
        assert_eq!(world.lab.kernel.read().unwrap(), tables);
    }
    assert_eq!(steps, step::ENDED * 2 - 1, "steps that were never taken");
}

/// What the test before would see: such packets change every map where they are not explained.
#[test]
fn packets_that_are_not_explained_change_every_map() {
    let mut world = World::new(3);
    let before = contents(&world.lab);
    for scheduler in SCHEDULERS {
        world.change(scheduler);
        for _ in 0..4 * STRETCH {
            let packet = world.packet();
            world.lab.send(&packet).unwrap();
        }
    }
    for (name, words) in contents(&world.lab) {
        assert_ne!(words, before[name], "{name}");
    }
}

#[test]
fn a_packet_that_is_no_frame_and_an_interface_that_is_not_there_are_refused() {
    let mut world = World::new(4);
    assert!(world.explainer.explain(&[0; 13], INGRESS).is_err());
    assert!(world.explainer.explain(&opening(&services()[0]).bytes(), 1 << 30).is_err());
}
