//! Packets that are watched: all are told of, or counted as missed, and only those that are wanted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::programs::{TestRun as _, TestRunOptions};
use mesh_common::abi::{BackendEntry, halves};
use mesh_common::notes::{Event, Filter, SNAP, step};
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_tests::lab::INGRESS;
use mesh_userspace::dataplane::kernel::{Told, Tracer};
use mesh_userspace::dataplane::{Dataplane as _, wire_address};

use crate::frame::{ETHERNET, Frame};
use crate::vlan::{TAGS, tagged};
use crate::world::{BACKEND, SLOTS, Way, World, assert_same, opening, services, xdp};

fn traced(filter: &Filter) -> (World, Tracer, Told) {
    let world = World::new(Way::L2);
    let (tracer, told) = Tracer::load(world.lab.kernel.recipe(), filter, false).unwrap();
    (world, tracer, told)
}

/// Runs a packet so often, as it then is; answers what became of the last, and the packet.
pub(crate) fn run(tracer: &mut Tracer, packet: &[u8], repeat: u32) -> (u32, Vec<u8>) {
    let mut output = vec![0xa5; packet.len() + 256];
    let program = tracer.program().unwrap();
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut output),
        repeat,
        ..TestRunOptions::new()
    };
    let result = program.test_run(options).unwrap();
    output.truncate(usize::try_from(result.data_size_out).unwrap());
    (result.return_value, output)
}

fn outcome(event: &Event) -> Outcome {
    Outcome::ALL[usize::try_from(event.notes.outcome).unwrap()]
}

fn bytes(event: &Event) -> Vec<u8> {
    let bytes: Vec<u8> = event.packet.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes[..usize::try_from(event.captured).unwrap()].to_vec()
}

/// How far counters went on.
fn moved(before: &BTreeMap<Outcome, u64>, after: &BTreeMap<Outcome, u64>) -> BTreeMap<Outcome, u64> {
    let by = |(outcome, count): (&Outcome, &u64)| (*outcome, count - before[outcome]);
    after.iter().map(by).filter(|(_, by)| *by > 0).collect()
}

#[test]
fn a_packet_is_balanced_and_counted_as_ever_and_told_of_as_it_came() {
    let (mut world, mut tracer, mut told) = traced(&Filter::default());
    for (id, service) in (1..).zip(services()) {
        world.lab.backend(BACKEND, BackendEntry { service: id, ..Way::L2.entry() }).unwrap();
        for payload in [0, 100, 1000] {
            let frame = Frame { payload, ..opening(&service) };
            for input in [frame.bytes(), tagged(&frame.bytes(), TAGS[3])] {
                let before = world.lab.kernel.outcomes().unwrap();
                let plain = world.lab.send(&input).unwrap();
                let watched = run(&mut tracer, &input, 1);
                assert_eq!(watched.0, xdp::TX);
                assert_same("the watched packet", &watched.1, &plain.1);
                let counted = moved(&before, &world.lab.kernel.outcomes().unwrap());
                assert_eq!(counted, [(Outcome::Transmitted, 2)].into());
                let event = told.take().unwrap();
                assert!(told.take().is_none(), "one of the two was watched");
                assert_eq!((outcome(&event), event.ingress), (Outcome::Transmitted, INGRESS));
                assert_eq!(event.notes.journey.service.id, id);
                assert_eq!(event.notes.journey.backend, BACKEND);
                assert_eq!(usize::try_from(event.length).unwrap(), input.len());
                assert_same(
                    "what is told",
                    &bytes(&event),
                    &input[..input.len().min(SNAP.try_into().unwrap())],
                );
            }
        }
    }
    assert_eq!(told.missed().unwrap(), 0);
}

/// The kernel runs packets as fast as it can on two processors, while somebody reads.
#[test]
fn under_load_what_is_not_told_of_is_counted_as_missed() {
    const RUNS: u32 = 40;
    const REPEAT: u32 = 5000;
    let (mut world, mut tracer, mut told) = traced(&Filter::default());
    world.lab.slots(SLOTS, 1, Slot::default()).unwrap();
    let before = world.lab.kernel.outcomes().unwrap();
    let is_over = AtomicBool::new(false);
    let (seen, told) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeMap::<Outcome, u64>::new();
            loop {
                let was_over = is_over.load(Ordering::SeqCst);
                while let Some(event) = told.take() {
                    *seen.entry(outcome(&event)).or_default() += 1;
                }
                if was_over {
                    return (seen, told);
                }
                thread::yield_now();
            }
        });
        for run_number in 0..RUNS {
            let mut frame = opening(&services()[usize::try_from(run_number % 4).unwrap()]);
            frame.source.set_port(4000 + u16::try_from(run_number).unwrap());
            run(&mut tracer, &frame.bytes(), REPEAT);
        }
        is_over.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    let counted = moved(&before, &world.lab.kernel.outcomes().unwrap());
    let sum = |counts: &BTreeMap<Outcome, u64>| counts.values().sum::<u64>();
    assert_eq!(sum(&counted), u64::from(RUNS * REPEAT), "{counted:?}");
    assert_eq!(sum(&seen) + told.missed().unwrap(), sum(&counted), "{seen:?} of {counted:?}");
    assert!(seen.iter().all(|(outcome, count)| *count <= counted[outcome]), "{seen:?} of {counted:?}");
    assert!(seen.len() > 1 && sum(&seen) > 5000, "{seen:?}");
}

/// Nobody reads: what has room is told of, and the rest is missed, for ever so long.
#[test]
fn what_nobody_reads_is_bounded() {
    let (_world, mut tracer, mut told) = traced(&Filter::default());
    run(&mut tracer, &opening(&services()[0]).bytes(), 20_000);
    let missed = told.missed().unwrap();
    let mut seen = 0;
    while told.take().is_some() {
        seen += 1;
    }
    assert_eq!(seen + missed, 20_000);
    assert!((6000..8000).contains(&seen), "{seen}");
}

#[test]
fn only_what_is_wanted_is_told_of() {
    let any = Filter::default();
    let client = halves(wire_address("198.51.100.0".parse().unwrap()));
    let mask = [u64::MAX, u64::MAX << 8 >> 8];
    let all = u64::MAX;
    let only = |outcome: Outcome| 1 << outcome.index();
    let filters = [
        ("all", any, [true; 4]),
        ("a service", Filter { service: 1, ..any }, [true, false, false, false]),
        ("clients", Filter { client, client_mask: mask, ..any }, [true, true, false, false]),
        ("drops", Filter { outcomes: only(Outcome::NoBackend), ..any }, [false, true, false, false]),
        ("not drops", Filter { outcomes: all ^ only(Outcome::NoBackend), ..any }, [true, false, true, true]),
        ("SYN", Filter { flags: 2, ..any }, [true, false, true, false]),
        ("ACK", Filter { flags: 0x10, ..any }, [false; 4]),
        ("a backend", Filter { backend: halves(Way::L2.entry().address), ..any }, [true, false, true, false]),
        ("another backend", Filter { backend: halves([9; 16]), ..any }, [false; 4]),
        ("none", Filter { chance: 0, ..any }, [false; 4]),
    ];
    for (about, filter, expected) in filters {
        let (mut world, mut tracer, mut told) = traced(&filter);
        // The second service has no backend, the fourth packet is no IP packet.
        world.lab.slots(2 * SLOTS, SLOTS, Slot::default()).unwrap();
        let mut arp = opening(&services()[0]).bytes();
        arp[ETHERNET - 1] = 0x06;
        let packets = [0, 1, 2].map(|number| opening(&services()[number]).bytes()).into_iter().chain([arp]);
        let got: Vec<bool> = packets
            .map(|packet| {
                run(&mut tracer, &packet, 1);
                told.take().is_some()
            })
            .collect();
        assert_eq!(got, expected, "{about}");
        assert_eq!(told.missed().unwrap(), 0);
    }
}

#[test]
fn a_sample_is_a_part_and_the_rest_goes_the_plain_way() {
    let (world, mut tracer, mut told) = traced(&Filter { chance: u32::MAX / 10, ..Filter::default() });
    let before = world.lab.kernel.outcomes().unwrap();
    run(&mut tracer, &opening(&services()[0]).bytes(), 20_000);
    let counted: u64 = moved(&before, &world.lab.kernel.outcomes().unwrap()).values().sum();
    let mut seen = 0;
    while let Some(event) = told.take() {
        assert!(event.notes.has(step::ENDED));
        seen += 1;
    }
    assert_eq!((counted, told.missed().unwrap()), (20_000, 0));
    // Six standard deviations of a tenth.
    assert!((1746..=2254).contains(&seen), "{seen}");
}
