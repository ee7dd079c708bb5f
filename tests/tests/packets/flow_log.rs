//! Segments that open and close flows, as the flow log is told of them.

use mesh_common::abi::BackendEntry;
use mesh_common::notes::{Filter, FlowEvent};
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_userspace::dataplane::Dataplane as _;
use mesh_userspace::dataplane::kernel::{Told, Tracer};

use crate::frame::{Flags, Frame, Transport};
use crate::trace::run;
use crate::vlan::{TAGS, tagged};
use crate::world::{BACKEND, SLOTS, Way, World, assert_same, opening, services, xdp};

fn logged() -> (World, Tracer, Told<FlowEvent>) {
    let world = World::new(Way::L2);
    let (tracer, turns) = Tracer::log(world.lab.kernel.recipe()).unwrap();
    (world, tracer, turns)
}

fn all(turns: &mut Told<FlowEvent>) -> Vec<FlowEvent> {
    std::iter::from_fn(|| turns.take()).collect()
}

#[test]
fn segments_that_open_and_close_are_told_of_and_no_others() {
    let (mut world, mut tracer, mut turns) = logged();
    let cases = [
        (Flags::Syn, true, 0x02),
        (Flags::SynAck, false, 0),
        (Flags::Ack, false, 0),
        (Flags::FinAck, true, 0x11),
        (Flags::Rst, true, 0x04),
    ];
    for (id, service) in (1..).zip(services()) {
        world.lab.backend(BACKEND, BackendEntry { service: id, ..Way::L2.entry() }).unwrap();
        let first = opening(&service);
        let is_tcp = matches!(first.transport, Transport::Tcp(_));
        for (flags, turns_flow, bits) in cases {
            let transport = if is_tcp { Transport::Tcp(flags) } else { Transport::Udp };
            let plain = Frame { transport, ..first.clone() }.bytes();
            for input in [plain.clone(), tagged(&plain, TAGS[3])] {
                let before = world.lab.kernel.outcomes().unwrap()[&Outcome::Transmitted];
                let sent = world.lab.send(&input).unwrap();
                let logged = run(&mut tracer, &input, 1);
                assert_eq!(logged.0, xdp::TX);
                assert_same("the logged packet", &logged.1, &sent.1);
                assert_eq!(world.lab.kernel.outcomes().unwrap()[&Outcome::Transmitted], before + 2);
                let told = all(&mut turns);
                assert_eq!(told.len(), usize::from(is_tcp && turns_flow), "{flags:?} {service:?}");
                for event in told {
                    assert_eq!((event.service, event.backend, event.flags), (id, BACKEND, bits));
                    assert_eq!(event.outcome, Outcome::Transmitted.index());
                    assert_eq!(u16::from_be(event.port), first.source.port());
                }
            }
        }
    }
    assert_eq!(turns.missed().unwrap(), 0);
}

#[test]
fn odd_headers_hide_no_flow_and_foreign_packets_are_not_told_of() {
    let (mut world, mut tracer, mut turns) = logged();
    let service = &services()[0];
    world.lab.backend(BACKEND, BackendEntry { service: 1, ..Way::L2.entry() }).unwrap();
    let with_options = Frame { options: 8, ..opening(service) };
    run(&mut tracer, &with_options.bytes(), 1);
    assert_eq!(all(&mut turns).len(), 1, "options");
    let mut foreign = opening(service);
    foreign.destination.set_port(81);
    assert_eq!(run(&mut tracer, &foreign.bytes(), 1).0, xdp::PASS);
    assert_eq!(all(&mut turns), [], "no service");
}

#[test]
fn who_finds_no_backend_is_told_of_with_the_outcome() {
    let (mut world, mut tracer, mut turns) = logged();
    world.lab.slots(SLOTS, 1, Slot::default()).unwrap();
    let frames = (0..SLOTS).map(|number| {
        let mut frame = opening(&services()[0]);
        frame.source.set_port(4000 + u16::try_from(number % 1000).unwrap());
        frame.bytes()
    });
    let frames: Vec<_> = frames.take(64).collect();
    for frame in &frames {
        run(&mut tracer, frame, 1);
    }
    let told = all(&mut turns);
    assert_eq!(told.len(), frames.len());
    let refused = |event: &&FlowEvent| event.outcome == Outcome::NoBackend.index() && event.backend == 0;
    assert!(told.iter().any(|event| refused(&event)), "{told:?}");
}

/// Nobody reads: what has room is told of, and the rest is counted.
#[test]
fn what_nobody_reads_is_bounded_and_counted() {
    const REPEAT: u32 = 100_000;
    let (_world, mut tracer, mut turns) = logged();
    let mut frame = opening(&services()[0]);
    // A packet that is sent on would be another in the next run.
    frame.hops = 1;
    run(&mut tracer, &frame.bytes(), REPEAT);
    let seen = u64::try_from(all(&mut turns).len()).unwrap();
    assert_eq!(seen + turns.missed().unwrap(), u64::from(REPEAT));
    assert!((50_000..60_000).contains(&seen), "{seen}");
}

/// Who watches packets while flows are logged takes nothing from the log: both are told, each of its own.
#[test]
fn somebody_who_watches_and_the_log_are_told_by_one_instance() {
    let (mut world, log, mut turns) = logged();
    world.lab.backend(BACKEND, BackendEntry { service: 1, ..Way::L2.entry() }).unwrap();
    let flags = Filter { flags: 0x10, ..Filter::default() };
    let (mut both, mut told) = Tracer::load(world.lab.kernel.recipe(), &flags, true).unwrap();
    for flags in [Flags::Syn, Flags::Ack, Flags::FinAck] {
        let frame = Frame { transport: Transport::Tcp(flags), ..opening(&services()[0]) };
        run(&mut both, &frame.bytes(), 1);
    }
    assert_eq!(all(&mut turns).iter().map(|event| event.flags).collect::<Vec<_>>(), [0x02, 0x11]);
    let watched = std::iter::from_fn(|| told.take());
    assert_eq!(watched.map(|event| event.notes.journey.signs.flags()).collect::<Vec<_>>(), [0x10, 0x11]);
    // However few packets are watched, the log knows all.
    let rare = Filter { chance: 0, ..Filter::default() };
    drop(both);
    let (mut both, mut told) = Tracer::load(world.lab.kernel.recipe(), &rare, true).unwrap();
    for _ in 0..100 {
        run(&mut both, &opening(&services()[0]).bytes(), 1);
    }
    assert_eq!((all(&mut turns).len(), told.take().is_none()), (100, true));
    drop(log);
}
