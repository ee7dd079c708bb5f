//! Connection tracking through the loaded program: who gets a packet, and what is recorded of it.

use std::net::SocketAddr;

use mesh_common::flow::{FlowRecord, SYN_GUARD, Ticks, UDP_IDLE, state};
use mesh_common::schedule::{MAGLEV, RANDOM};
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, SEED};
use mesh_userspace::config::{Protocol, ServiceKey};
use mesh_userspace::dataplane::{Flow, flow_hash};

use crate::frame::{Flags, Frame, Transport};
use crate::tracked::{ABSENT, DEAD, NEW, OLD, OTHER, lab, record, send};
use crate::world::{SLOTS, opening, services};

const STEADY: Slot = Slot::steady(NEW);
/// New flows are recorded, old ones not yet.
const MIGRATING: Slot = Slot::new(NEW, OLD, true, false);
/// All flows are recorded.
const PINNED: Slot = Slot::new(NEW, OLD, true, true);
const SETTLING: Slot = Slot::new(NEW, NEW, true, false);
const ALWAYS: Slot = Slot::new(NEW, NEW, true, true);
/// Every slot that consults the flow table.
const CONSULTING: [Slot; 4] = [MIGRATING, PINNED, SETTLING, ALWAYS];

const SYN: Transport = Transport::Tcp(Flags::Syn);
const SYN_ACK: Transport = Transport::Tcp(Flags::SynAck);
const ACK: Transport = Transport::Tcp(Flags::Ack);
const FIN: Transport = Transport::Tcp(Flags::FinAck);
const RST: Transport = Transport::Tcp(Flags::Rst);
const UDP: Transport = Transport::Udp;

/// The age of a record that another CPU wrote a tick later than this one reads the clock.
const AHEAD: Ticks = Ticks::MAX;

/// Backend, state and age of a record.
type Record = (u32, u32, Ticks);

/// What is there, what comes, and then: who gets it, what is recorded (`None`: nothing), and whether a new flow is
/// counted.
type Row = (Slot, Option<Record>, Transport, u32, Option<(u32, u32)>, bool);

/// Checks a row within one tick of the clock, so that ages are exact.
fn check(lab: &mut Lab, service: u32, key: &ServiceKey, row: Row) {
    loop {
        let began = lab.now().unwrap();
        let seen = try_row(lab, service, key, row, began);
        if lab.now().unwrap() == began {
            let (_, _, _, backend, recorded, opens) = row;
            let expected =
                (backend, recorded.map(|(backend, state)| (backend, state, true)), u64::from(opens));
            let (slot, found, transport, ..) = row;
            assert_eq!(seen, expected, "{key:?}: {slot:?} {found:?} {transport:?}");
            return;
        }
    }
}

/// Who got the packet, what is recorded of it (and whether its time is right), and how many new flows were counted.
fn try_row(
    lab: &mut Lab,
    service: u32,
    key: &ServiceKey,
    (slot, found, transport, ..): Row,
    now: Ticks,
) -> (u32, Option<(u32, u32, bool)>, u64) {
    let frame = Frame { transport, ..opening(key) };
    lab.retain_flows(|_| false).unwrap();
    lab.slots(service * SLOTS, SLOTS, slot).unwrap();
    let before =
        found.map(|(backend, state, age)| FlowRecord { backend, seen: now.wrapping_sub(age), state });
    if let Some(record) = before {
        let hash = flow_hash(SEED, frame.source);
        lab.write_flow(&Flow { client: frame.source, service, hash, record }).unwrap();
    }
    let count = |lab: &Lab| (OLD..=DEAD).map(|id| lab.counters(id).unwrap().new_flows).sum::<u64>();
    let counted = count(lab);
    let backend = send(lab, &frame);
    let counted = count(lab) - counted;
    // A steady slot leaves records alone.
    let seen = before.filter(|_| !slot.consults()).map_or(now, |record| record.seen);
    let after = record(lab, frame.source, service);
    (backend, after.map(|record| (record.backend, record.state, record.seen == seen)), counted)
}

fn check_all(protocol: Protocol, rows: &[Row]) {
    let mut lab = lab();
    for (id, key) in (1..).zip(services()).filter(|(_, key)| key.protocol == protocol) {
        rows.iter().for_each(|row| check(&mut lab, id, &key, *row));
    }
}

const OPENING: u32 = state::OPENING;
const ESTABLISHED: u32 = state::ESTABLISHED;
const CLOSING: u32 = state::CLOSING;

#[test]
fn a_steady_slot_neither_reads_nor_writes_records() {
    let found =
        [None, Some((OTHER, ESTABLISHED, 0)), Some((DEAD, OPENING, SYN_GUARD + 1)), Some((OLD, CLOSING, 3))];
    for found in found {
        let kept = found.map(|(backend, state, _)| (backend, state));
        let segments = [SYN, SYN_ACK, ACK, FIN, RST];
        check_all(Protocol::Tcp, &segments.map(|s| (STEADY, found, s, NEW, kept, s == SYN)));
        check_all(Protocol::Udp, &[(STEADY, found, UDP, NEW, kept, false)]);
    }
}

#[test]
fn a_migrating_slot_gives_new_flows_to_current_and_unknown_ones_to_untracked() {
    check_all(
        Protocol::Tcp,
        &[
            (MIGRATING, None, SYN, NEW, Some((NEW, OPENING)), true),
            (MIGRATING, None, SYN_ACK, OLD, None, false),
            (MIGRATING, None, ACK, OLD, None, false),
            (MIGRATING, None, FIN, OLD, None, false),
            (MIGRATING, None, RST, OLD, None, false),
        ],
    );
    check_all(Protocol::Udp, &[(MIGRATING, None, UDP, OLD, None, false)]);
}

#[test]
fn a_pinned_slot_records_unknown_flows_too_but_for_those_that_end() {
    check_all(
        Protocol::Tcp,
        &[
            (PINNED, None, SYN, NEW, Some((NEW, OPENING)), true),
            (PINNED, None, SYN_ACK, OLD, Some((OLD, ESTABLISHED)), false),
            (PINNED, None, ACK, OLD, Some((OLD, ESTABLISHED)), false),
            (PINNED, None, FIN, OLD, None, false),
            (PINNED, None, RST, OLD, None, false),
        ],
    );
    check_all(Protocol::Udp, &[(PINNED, None, UDP, OLD, Some((OLD, ESTABLISHED)), true)]);
}

#[test]
fn in_a_flood_flows_go_where_they_belong_without_a_record() {
    // Slot, segment, who gets it, and whether it is recorded all the same, for else its flow would lose its backend.
    let rows = [
        (MIGRATING, SYN, OLD, false),
        (PINNED, SYN, OLD, false),
        (PINNED, ACK, OLD, true),
        (ALWAYS, SYN, NEW, false),
        (ALWAYS, ACK, NEW, false),
        // The one to whom flows without a record belong is dead.
        (Slot::new(NEW, DEAD, true, true), SYN, NEW, true),
    ];
    let key = services()[0];
    for scheduler in [MAGLEV, RANDOM] {
        let mut lab = lab();
        lab.schedule(key, scheduler, 0).unwrap();
        lab.flood_limit(1).unwrap();
        for (slot, transport, backend, is_recorded) in rows {
            lab.slots(SLOTS, SLOTS, slot).unwrap();
            let frame = Frame { transport, ..opening(&key) };
            // Others begin flows first, and one more than is no flood.
            for port in [1, 2, 3] {
                let source = SocketAddr::new(frame.source.ip(), port);
                send(&mut lab, &Frame { source, ..opening(&key) });
            }
            lab.retain_flows(|_| false).unwrap();
            let got = send(&mut lab, &frame);
            let seen = record(&mut lab, frame.source, 1).is_some();
            // Who picks for new flows records all others that it is told to.
            let picks = scheduler == RANDOM;
            let expected = is_recorded || picks && transport == ACK;
            assert_eq!(seen, expected, "{slot:?} {transport:?} {scheduler}");
            let is_picked = picks && is_recorded && transport == SYN;
            assert!(is_picked || got == backend, "{slot:?} {transport:?} {scheduler}: {got}");
        }
    }
}

#[test]
fn a_settling_slot_gives_unknown_flows_to_current_and_records_nothing() {
    let segments = [SYN, SYN_ACK, ACK, FIN, RST];
    check_all(Protocol::Tcp, &segments.map(|segment| (SETTLING, None, segment, NEW, None, segment == SYN)));
    check_all(Protocol::Udp, &[(SETTLING, None, UDP, NEW, None, false)]);
}

#[test]
fn a_slot_that_always_records_does_so_but_for_ends() {
    check_all(
        Protocol::Tcp,
        &[
            (ALWAYS, None, SYN, NEW, Some((NEW, OPENING)), true),
            (ALWAYS, None, SYN_ACK, NEW, Some((NEW, ESTABLISHED)), false),
            (ALWAYS, None, ACK, NEW, Some((NEW, ESTABLISHED)), false),
            (ALWAYS, None, FIN, NEW, None, false),
            (ALWAYS, None, RST, NEW, None, false),
        ],
    );
    check_all(Protocol::Udp, &[(ALWAYS, None, UDP, NEW, Some((NEW, ESTABLISHED)), true)]);
}

#[test]
fn a_record_is_followed_wherever_records_are_consulted() {
    for slot in CONSULTING {
        let row = |from, age, transport, to| {
            (slot, Some((OTHER, from, age)), transport, OTHER, Some((OTHER, to)), transport == SYN)
        };
        check_all(
            Protocol::Tcp,
            &[
                row(OPENING, 0, SYN, OPENING),
                row(OPENING, 0, ACK, ESTABLISHED),
                row(OPENING, 0, RST, CLOSING),
                row(ESTABLISHED, SYN_GUARD, SYN, ESTABLISHED),
                row(ESTABLISHED, 0, SYN_ACK, ESTABLISHED),
                row(ESTABLISHED, SYN_GUARD + 1, ACK, ESTABLISHED),
                row(ESTABLISHED, 1_000_000, ACK, ESTABLISHED),
                row(ESTABLISHED, 0, FIN, CLOSING),
                row(ESTABLISHED, 9, RST, CLOSING),
                row(CLOSING, 0, ACK, CLOSING),
                row(CLOSING, 9, FIN, CLOSING),
                row(ESTABLISHED, AHEAD, SYN, ESTABLISHED),
            ],
        );
        check_all(
            Protocol::Udp,
            &[
                row(ESTABLISHED, 0, UDP, ESTABLISHED),
                row(ESTABLISHED, UDP_IDLE, UDP, ESTABLISHED),
                row(ESTABLISHED, AHEAD, UDP, ESTABLISHED),
            ],
        );
    }
}

#[test]
fn a_record_of_a_flow_that_is_over_gives_way_to_current() {
    for slot in CONSULTING {
        let row = |state, age, transport, to| {
            (slot, Some((OTHER, state, age)), transport, NEW, Some((NEW, to)), transport == SYN)
        };
        check_all(
            Protocol::Tcp,
            &[
                row(CLOSING, 0, SYN, OPENING),
                row(ESTABLISHED, SYN_GUARD + 1, SYN, OPENING),
                row(OPENING, SYN_GUARD + 1, SYN, OPENING),
            ],
        );
        check_all(Protocol::Udp, &[row(ESTABLISHED, UDP_IDLE + 1, UDP, ESTABLISHED)]);
    }
}

#[test]
fn a_dead_or_absent_backend_keeps_no_flow() {
    for (slot, backend) in CONSULTING.into_iter().flat_map(|s| [(s, DEAD), (s, ABSENT)]) {
        let row = |from, transport, to| {
            (slot, Some((backend, from, 0)), transport, NEW, Some((NEW, to)), transport == SYN)
        };
        check_all(
            Protocol::Tcp,
            &[
                row(ESTABLISHED, SYN, OPENING),
                row(ESTABLISHED, ACK, ESTABLISHED),
                row(OPENING, SYN_ACK, ESTABLISHED),
                row(CLOSING, ACK, ESTABLISHED),
            ],
        );
        check_all(Protocol::Udp, &[row(ESTABLISHED, UDP, ESTABLISHED)]);
    }
}
