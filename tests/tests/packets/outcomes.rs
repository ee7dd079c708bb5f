//! Every outcome can be reached: none is there for nothing, and none goes untested.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_common::abi::{BackendEntry, programs};
use mesh_common::outcome::Outcome;
use mesh_common::schedule::MAGLEV;
use mesh_common::slot::Slot;
use mesh_tests::lab::INGRESS;
use mesh_userspace::config::Admittance;

use crate::echo;
use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::guard;
use crate::reject;
use crate::screen;
use crate::translation;
use crate::vlan::{TAGS, tagged};
use crate::world::{BACKEND, Expected, SLOTS, Way, World, action, opening, services};

/// A world and a packet that ends so in it, behind so many bytes of metadata.
type Journey = (World, Vec<u8>, usize);

/// A way to every outcome; a new one does not compile until there is a way to it.
fn journey(outcome: Outcome) -> Journey {
    let frame = opening(&services()[0]);
    let sent = |world: World| (world, frame.bytes(), 0);
    let changed = |change: &dyn Fn(&mut Frame)| {
        let mut frame = frame.clone();
        change(&mut frame);
        (World::new(Way::L2), frame.bytes(), 0)
    };
    let poked = |at: usize, value: u8| {
        let mut packet = frame.bytes();
        packet[at] = value;
        (World::new(Way::L2), packet, 0)
    };
    let backend = |change: &dyn Fn(&mut BackendEntry)| {
        let mut entry = Way::L2.entry();
        change(&mut entry);
        sent(World::with(entry))
    };
    let translated = |(lab, packet)| (World { lab }, packet, 0);
    match outcome {
        Outcome::Transmitted => sent(World::new(Way::L2)),
        Outcome::Redirected => backend(&|entry| entry.ifindex = INGRESS + 1),
        Outcome::NotIp => poked(ETHERNET - 1, 0x06),
        Outcome::OtherProtocol => poked(ETHERNET + 9, 1),
        Outcome::NotAService => changed(&|frame| frame.destination.set_port(81)),
        Outcome::Fragment => changed(&|frame| {
            frame.fragment_offset = 1;
            frame.destination.set_ip([192, 0, 2, 11].into());
        }),
        Outcome::OrphanFragment => changed(&|frame| frame.fragment_offset = 1),
        Outcome::TooManyHeaders => {
            let long = Frame { extensions: vec![(60, 8); 7], ..opening(&services()[2]) };
            (World::new(Way::L2), long.bytes(), 0)
        }
        Outcome::EchoAnswered => (World::new(Way::L2), echo::request(services()[0].vip.addr(), 4), 0),
        Outcome::EchoLimited => {
            let mut world = World::new(Way::L2);
            echo::exhaust(&mut world);
            (world, echo::request(services()[0].vip.addr(), 4), 0)
        }
        Outcome::Rejected => sent(reject::world()),
        Outcome::Truncated => (World::new(Way::L2), frame.bytes()[..ETHERNET + 20].to_vec(), 0),
        Outcome::BadLength => poked(ETHERNET + 2, 1),
        Outcome::BadChecksum => poked(ETHERNET + 10, frame.bytes()[ETHERNET + 10] ^ 1),
        Outcome::BadOptions => {
            (World::new(Way::L2), screen::with_options(&frame, &[131, 7, 4, 192, 0, 2, 1, 0]), 0)
        }
        Outcome::BadFlags => poked(screen::FLAGS4, 0),
        Outcome::SpoofedSource => changed(&|frame| frame.source.set_ip([127, 0, 0, 1].into())),
        Outcome::TinyFragment => {
            let tiny = Frame { payload: 200, ..frame }.fragments(8);
            (World::new(Way::L2), tiny[0].clone(), 0)
        }
        Outcome::OverlappingFragment => overlapping(&Frame { payload: 200, ..frame }.fragments(64)),
        Outcome::Denied => {
            let mut world = World::new(Way::L2);
            let guard = guard::of(&[(&frame.source.ip().to_string(), Admittance::Deny)]);
            world.lab.guard(&[(services()[0], guard)], 0).unwrap();
            sent(world)
        }
        Outcome::NoBackend => {
            let mut world = World::new(Way::L2);
            world.lab.slots(SLOTS, SLOTS, Slot::default()).unwrap();
            sent(world)
        }
        Outcome::OverCap => {
            let mut world = World::new(Way::L2);
            world.lab.slots(SLOTS, SLOTS, Slot::new(BACKEND, BACKEND, true, true)).unwrap();
            world.lab.schedule(services()[0], MAGLEV, 1).unwrap();
            let other = Frame { source: SocketAddr::new(frame.source.ip(), 4001), ..frame.clone() };
            world.lab.send(&other.bytes()).unwrap();
            sent(world)
        }
        Outcome::NoNextHop => backend(&|entry| entry.room = 0),
        Outcome::TooBig => {
            let loose = Frame { dont_fragment: false, payload: 100, ..frame };
            (World::with(BackendEntry { room: 100, ..Way::L2.entry() }), loose.bytes(), 0)
        }
        Outcome::TooBigTold => {
            let long = Frame { payload: 100, ..frame };
            (World::with(BackendEntry { room: 100, ..Way::L2.entry() }), long.bytes(), 0)
        }
        Outcome::ReplyTransmitted => translated(translation::answer(INGRESS)),
        Outcome::ReplyRedirected => translated(translation::answer(INGRESS + 1)),
        Outcome::NotConnected => translated(translation::stranger(Transport::Tcp(Flags::Ack), 8, true)),
        Outcome::SynCookie => translated(translation::flooded(Transport::Tcp(Flags::Syn))),
        Outcome::Flooded => translated(translation::flooded(Transport::Udp)),
        Outcome::PortsExhausted => translated(translation::stranger(Transport::Udp, 8, false)),
        Outcome::ConnectionsExhausted => translated(translation::stranger(Transport::Udp, 1, true)),
        Outcome::Untranslatable => translated(translation::wordless()),
        Outcome::TtlExpired => changed(&|frame| frame.hops = 1),
        Outcome::NoHeadroom => (World::new(Way::Ipv4), frame.bytes(), 200),
        Outcome::Unhandled => {
            let (world, packet, _) = poked(ETHERNET - 1, 0x06);
            world.lab.misplace(programs::WHOLE).unwrap();
            (world, packet, 0)
        }
    }
}

/// A world that knows the first of these fragments, and another that begins before its end.
fn overlapping(fragments: &[Vec<u8>]) -> Journey {
    let mut world = World::with(BackendEntry { service: 1, ..Way::L2.entry() });
    world.lab.send(&fragments[0]).unwrap();
    (world, screen::at_offset(&fragments[1], 56), 0)
}

#[test]
fn every_outcome_is_reached_by_a_packet() {
    for outcome in Outcome::ALL {
        let (mut world, packet, metadata) = journey(*outcome);
        let verdict = world.lab.run_behind(metadata, &packet).unwrap();
        assert_eq!(verdict.moved, BTreeMap::from([(*outcome, 1)]));
        assert_eq!(verdict.action, action(*outcome), "{outcome:?}");
    }
}

#[test]
fn where_a_program_is_missing_packets_go_on_into_the_host_as_they_came() {
    for (id, service) in (1..).zip(services()) {
        for program in [programs::WHOLE, programs::CHOOSE, programs::DELIVER] {
            let mut world = World::with(BackendEntry { service: id, ..Way::Ipv4.entry() });
            world.lab.misplace(program).unwrap();
            for tags in TAGS {
                let packet = tagged(&opening(&service).bytes(), tags);
                world.check("tagged", &packet, &Expected::Kept(Outcome::Unhandled));
            }
        }
    }
}
