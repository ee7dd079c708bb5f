//! Records over more than one packet: backends that die, several services, and a table that is full.

use std::net::SocketAddr;

use mesh_common::abi::BackendEntry;
use mesh_common::flow::state;
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, SIZES};
use mesh_userspace::dataplane::Dataplane as _;
use mesh_userspace::dataplane::kernel::Sizes;

use crate::frame::{Flags, Frame, Transport};
use crate::tracked::{NEW, OTHER, lab, lab_of_size, record, send};
use crate::world::{SLOTS, Way, opening, services};

const ALWAYS: Slot = Slot::new(NEW, NEW, true, true);

#[test]
fn a_backend_that_dies_loses_its_recorded_flows_and_gets_none_back() {
    let mut lab = lab();
    for (id, key) in (1..).zip(services()) {
        let frame = opening(&key);
        lab.slots(id * SLOTS, SLOTS, ALWAYS).unwrap();
        assert_eq!(send(&mut lab, &frame), NEW);
        lab.slots(id * SLOTS, SLOTS, Slot::new(OTHER, OTHER, true, true)).unwrap();
        assert_eq!(send(&mut lab, &frame), NEW, "the record is followed");
        let entry = BackendEntry { destination_mac: [2, 0, 0, 0, 0, 2], ..Way::L2.entry() };
        lab.backend(NEW, BackendEntry { alive: 0, ..entry }).unwrap();
        assert_eq!(send(&mut lab, &frame), OTHER);
        lab.backend(NEW, entry).unwrap();
        assert_eq!(send(&mut lab, &frame), OTHER, "the flow was recorded anew");
    }
}

#[test]
fn a_look_through_the_table_that_began_before_a_packet_finds_its_flow_active() {
    let mut lab = lab();
    for (id, key) in (1..).zip(services()) {
        lab.slots(id * SLOTS, SLOTS, ALWAYS).unwrap();
        lab.send(&opening(&key).bytes()).unwrap();
    }
    let began = lab.now().unwrap() - 2;
    let mut idle = Vec::new();
    lab.kernel
        .retain_flows(began, &mut |flow| {
            idle.push(flow.record.idle(began));
            true
        })
        .unwrap();
    assert_eq!(idle, vec![0; services().len()]);
}

#[test]
fn one_client_has_a_record_of_its_own_at_every_service() {
    let mut lab = lab();
    for (id, key) in (1..).zip(services()) {
        lab.slots(id * SLOTS, SLOTS, Slot::new(1 + id % 3, 1 + id % 3, true, true)).unwrap();
        lab.send(&opening(&key).bytes()).unwrap();
    }
    for (id, key) in (1..).zip(services()) {
        let own = record(&mut lab, opening(&key).source, id);
        assert_eq!(own.map(|record| record.backend), Some(1 + id % 3), "{key:?}");
    }
    assert_eq!(lab.flows().unwrap().len(), services().len());
}

#[test]
fn established_flows_outlive_a_flood_of_openings_that_fills_the_table() {
    const FLOWS: u32 = 60;
    const FLOOD: u16 = 2000;
    let mut lab = lab_of_size(Sizes { flows: FLOWS, ..SIZES });
    let key = services()[0];
    lab.slots(SLOTS, SLOTS, ALWAYS).unwrap();
    let send = |lab: &mut Lab, transport, port| {
        let mut frame = Frame { transport, ..opening(&key) };
        frame.source.set_port(port);
        assert_eq!(send(lab, &frame), NEW);
        frame.source
    };
    let established: Vec<SocketAddr> =
        (1..=20).map(|port| send(&mut lab, Transport::Tcp(Flags::Ack), port)).collect();
    for port in 1000..1000 + FLOOD {
        send(&mut lab, Transport::Tcp(Flags::Syn), port);
    }
    let recorded = lab.flows().unwrap().len();
    assert!(recorded > usize::try_from(FLOWS).unwrap(), "the table is full: {recorded}");
    for client in established {
        assert!(record(&mut lab, client, 1).is_some(), "{client} was evicted");
    }
    let last = send(&mut lab, Transport::Tcp(Flags::Syn), 999);
    let last = record(&mut lab, last, 1);
    assert_eq!(
        last.map(|record| record.state),
        Some(state::OPENING),
        "who comes last is recorded all the same"
    );
}
