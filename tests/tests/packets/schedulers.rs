//! Schedulers and limits to flows, through the loaded program: who gets new flows, and that they stay there.

use std::net::{IpAddr, SocketAddr};

use mesh_common::abi::BackendEntry;
use mesh_common::flow::{FlowRecord, state};
use mesh_common::outcome::Outcome;
use mesh_common::schedule::{LEAST_CONNECTIONS, MAGLEV, RANDOM, ROUND_ROBIN, SOURCE, compress};
use mesh_common::slot::Slot;
use mesh_tests::lab::Lab;
use mesh_userspace::config::{Protocol, ServiceKey};
use mesh_userspace::dataplane::{Dataplane as _, Load, Op};

use crate::frame::{Flags, Frame, Transport};
use crate::tracked::{NEW, OLD, OTHER, lab, record, send};
use crate::world::{SLOTS, Way, opening, services};

/// Who owns each slot: weights of 1, 2 and 4.
const OWNERS: [u32; 7] = [OTHER, NEW, OTHER, OLD, OTHER, NEW, OTHER];

/// The slots of a service as an agent fills them for a service that records all flows.
fn fill(lab: &mut Lab, id: u32, owners: [u32; 7]) {
    for (index, owner) in (id * SLOTS..).zip(owners) {
        lab.kernel.apply(&Op::WriteSlot { index, slot: Slot::new(owner, owner, true, true) }).unwrap();
    }
}

fn scheduled(scheduler: u32) -> Lab {
    let mut lab = lab();
    for (id, key) in (1..).zip(services()) {
        fill(&mut lab, id, OWNERS);
        lab.schedule(key, scheduler, 0).unwrap();
    }
    for (id, weight) in [(OLD, 100), (NEW, 200), (OTHER, 400)] {
        let entry = BackendEntry {
            destination_mac: [2, 0, 0, 0, 0, u8::try_from(id).unwrap()],
            weight: compress(weight),
            ..Way::L2.entry()
        };
        lab.backend(id, entry).unwrap();
    }
    lab
}

/// The `n`th client's first packet.
fn first(key: &ServiceKey, n: u16) -> Frame {
    let frame = opening(key);
    Frame { source: SocketAddr::new(frame.source.ip(), 1024 + n), ..frame }
}

/// A later packet of the same flow.
fn later(frame: &Frame) -> Frame {
    let transport = match frame.transport {
        Transport::Tcp(_) => Transport::Tcp(Flags::Ack),
        Transport::Udp | Transport::Other(_) => frame.transport,
    };
    Frame { transport, ..frame.clone() }
}

/// How many of so many new flows each backend gets; each flow stays.
fn shares(lab: &mut Lab, key: &ServiceKey, flows: u16) -> [u16; 3] {
    let mut shares = [0; 3];
    let got: Vec<u32> = (0..flows).map(|n| send(lab, &first(key, n))).collect();
    for (n, backend) in (0..flows).zip(got) {
        assert_eq!(send(lab, &later(&first(key, n))), backend, "flow {n} of {key:?} moved");
        shares[usize::try_from(backend - OLD).unwrap()] += 1;
    }
    shares
}

/// Chi-squared with two degrees of freedom, against weights of 1, 2 and 4.
fn chi(shares: [u16; 3]) -> f64 {
    let total: f64 = shares.iter().map(|n| f64::from(*n)).sum();
    let ideal = [1.0, 2.0, 4.0].map(|weight| weight * total / 7.0);
    shares.iter().zip(ideal).map(|(n, ideal)| (f64::from(*n) - ideal).powi(2) / ideal).sum()
}

#[test]
fn random_spreads_new_flows_by_weight_and_they_stay() {
    let mut lab = scheduled(RANDOM);
    for key in services() {
        let shares = shares(&mut lab, &key, 700);
        // Below 28 with a probability of 1 - 10^-6.
        assert!(chi(shares) < 28.0, "{key:?}: {shares:?}");
    }
}

/// Test runs may be on either CPU, of which each takes its own turns: a round on one may be broken off.
#[test]
fn round_robin_gives_each_slot_its_turn() {
    let mut lab = scheduled(ROUND_ROBIN);
    for key in services() {
        let shares = shares(&mut lab, &key, 700);
        for (n, ideal) in shares.into_iter().zip([100u16, 200, 400]) {
            assert!(n.abs_diff(ideal) <= 8, "{key:?}: {shares:?}");
        }
    }
}

#[test]
fn least_connections_keeps_flows_for_a_weight_even() {
    let mut lab = scheduled(LEAST_CONNECTIONS);
    let [key, ..] = &services()[..] else { panic!("there are services") };
    let shares = shares(&mut lab, key, 700);
    for (n, ideal) in shares.into_iter().zip([100u16, 200, 400]) {
        assert!(n.abs_diff(ideal) <= ideal / 12, "{shares:?}");
    }
    for (id, share) in (OLD..).zip(shares) {
        assert_eq!(lab.kernel.load(Load::Backend(id)), u64::from(share), "the load of {id}");
    }
    assert_eq!(lab.kernel.load(Load::Service(1)), 700);
}

#[test]
fn least_connections_refills_a_backend_that_lost_its_flows() {
    let mut lab = scheduled(LEAST_CONNECTIONS);
    let key = services()[0];
    let flows: Vec<Frame> = (0..700).map(|n| first(&key, n)).collect();
    for frame in &flows {
        if send(&mut lab, frame) == OTHER {
            let end = Frame { transport: Transport::Tcp(Flags::FinAck), ..frame.clone() };
            assert_eq!(send(&mut lab, &end), OTHER);
        }
    }
    assert_eq!(lab.kernel.load(Load::Backend(OTHER)), 0);
    let got: Vec<u32> = (700..800).map(|n| send(&mut lab, &first(&key, n))).collect();
    // Who draws it as one of two, of which four sevenths of the slots are its, gives it the flow: 82 of 100.
    let refilled = got.iter().filter(|backend| **backend == OTHER).count();
    assert!(refilled >= 60, "{refilled} of 100");
}

#[test]
fn source_gives_all_flows_of_a_client_to_one_backend_and_spreads_clients() {
    let mut lab = scheduled(SOURCE);
    for (id, key) in (1..).zip(services()) {
        let mut owners = std::collections::BTreeSet::new();
        for client in 1..=60u8 {
            let address: IpAddr = if key.vip.addr().is_ipv4() {
                [198, 51, 100, client].into()
            } else {
                [0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(client)].into()
            };
            let from = |n: u16| Frame { source: SocketAddr::new(address, 1024 + n), ..opening(&key) };
            let backend = send(&mut lab, &from(0));
            owners.insert(backend);
            assert!((1..8).all(|n| send(&mut lab, &from(n)) == backend), "{key:?}: {address}");
        }
        assert_eq!(owners.len(), 3, "{key:?}");
        // Adaptive: a steady slot leaves no records.
        lab.retain_flows(|_| false).unwrap();
        lab.slots(id * SLOTS, SLOTS, Slot::steady(NEW)).unwrap();
        assert_eq!(send(&mut lab, &opening(&key)), NEW);
        assert_eq!(lab.flows().unwrap(), vec![]);
    }
}

#[test]
fn recorded_flows_stay_when_the_scheduler_and_the_slots_change() {
    let mut lab = scheduled(MAGLEV);
    for (id, key) in (1..).zip(services()) {
        let before: Vec<u32> = (0..40).map(|n| send(&mut lab, &first(&key, n))).collect();
        fill(&mut lab, id, [OLD; 7]);
        for scheduler in [RANDOM, SOURCE, ROUND_ROBIN, LEAST_CONNECTIONS, MAGLEV] {
            lab.schedule(key, scheduler, 0).unwrap();
            for (n, backend) in (0..40).zip(&before) {
                assert_eq!(send(&mut lab, &later(&first(&key, n))), *backend, "{key:?}: {scheduler}");
            }
        }
        assert_eq!(send(&mut lab, &first(&key, 99)), OLD);
    }
}

#[test]
fn a_segment_that_is_not_recorded_goes_by_its_hash_whatever_picks_new_flows() {
    let mut lab = scheduled(MAGLEV);
    let key = services()[0];
    let by_hash: Vec<u32> = (0..40).map(|n| send(&mut lab, &later(&first(&key, n)))).collect();
    for scheduler in [RANDOM, ROUND_ROBIN, LEAST_CONNECTIONS] {
        lab.retain_flows(|_| false).unwrap();
        lab.schedule(key, scheduler, 0).unwrap();
        for (n, backend) in (0..40).zip(&by_hash) {
            assert_eq!(send(&mut lab, &later(&first(&key, n))), *backend, "{scheduler}");
        }
    }
}

#[test]
fn a_flow_for_which_there_is_no_place_goes_by_its_hash() {
    let mut lab = scheduled(RANDOM);
    let key = services()[0];
    let by_hash = |lab: &mut Lab, n| {
        lab.schedule(key, MAGLEV, 0).unwrap();
        let backend = send(lab, &later(&first(&key, n)));
        lab.schedule(key, RANDOM, 0).unwrap();
        backend
    };
    // The table takes 6,832 flows, none of which is idle.
    let now = lab.now().unwrap();
    for n in 0..40_000u16 {
        let client = SocketAddr::new([198, 51, 100, 200].into(), n);
        let flow = mesh_userspace::dataplane::Flow {
            client,
            service: 2,
            hash: mesh_userspace::dataplane::flow_hash(mesh_tests::lab::SEED, client),
            record: FlowRecord { backend: OLD, seen: now, state: state::ESTABLISHED },
        };
        let _ = lab.write_flow(&flow);
    }
    let mut lost = 0;
    for n in 0..60 {
        let frame = first(&key, n);
        let backend = send(&mut lab, &frame);
        if record(&mut lab, frame.source, 1).is_none() {
            lost += 1;
            assert_eq!(backend, by_hash(&mut lab, n), "flow {n}");
        }
    }
    assert!(lost > 30, "{lost} found no place");
}

const CAP: u32 = 5;

/// How a packet ends.
fn end(lab: &mut Lab, frame: &Frame) -> Outcome {
    let moved = lab.run(&frame.bytes()).unwrap().moved;
    assert_eq!(moved.len(), 1, "{moved:?}");
    moved.into_keys().next().unwrap()
}

#[test]
fn a_limit_refuses_new_flows_alone_until_one_ends() {
    for scheduler in [MAGLEV, SOURCE, RANDOM, LEAST_CONNECTIONS] {
        let mut lab = scheduled(scheduler);
        for (id, key) in (1..).zip(services()) {
            lab.schedule(key, scheduler, CAP).unwrap();
            for n in 0..5 {
                assert_eq!(end(&mut lab, &first(&key, n)), Outcome::Transmitted, "{key:?}: flow {n}");
            }
            assert_eq!(end(&mut lab, &first(&key, 9)), Outcome::OverCap, "{key:?}");
            assert_eq!(record(&mut lab, first(&key, 9).source, id), None);
            for n in 0..5 {
                assert_eq!(end(&mut lab, &later(&first(&key, n))), Outcome::Transmitted, "{key:?}");
            }
            if key.protocol == Protocol::Tcp {
                let fin = Frame { transport: Transport::Tcp(Flags::FinAck), ..first(&key, 3) };
                // Twice, as it may be: it is one flow that ends.
                assert_eq!([(); 2].map(|()| end(&mut lab, &fin)), [Outcome::Transmitted; 2]);
                assert_eq!(end(&mut lab, &first(&key, 9)), Outcome::Transmitted);
                assert_eq!(end(&mut lab, &first(&key, 10)), Outcome::OverCap);
            }
        }
    }
}

#[test]
fn the_agents_count_opens_a_service_whose_flows_are_gone() {
    let mut lab = scheduled(RANDOM);
    let key = services()[1];
    lab.schedule(key, RANDOM, CAP).unwrap();
    assert!((0..5).all(|n| end(&mut lab, &first(&key, n)) == Outcome::Transmitted));
    assert_eq!(end(&mut lab, &first(&key, 5)), Outcome::OverCap);
    let counted = lab.kernel.load(Load::Service(2));
    assert_eq!(counted, 5);
    // More than were there: the count is below none for a moment, and is taken for none.
    lab.kernel.add_load(Load::Service(2), 0u64.wrapping_sub(counted + 1)).unwrap();
    assert!((5..11).all(|n| end(&mut lab, &first(&key, n)) == Outcome::Transmitted));
    assert_eq!(end(&mut lab, &first(&key, 11)), Outcome::OverCap);
}
