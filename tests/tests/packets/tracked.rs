//! The lab of the tests of connection tracking: backends that are told apart, and records that are read.

use std::net::SocketAddr;

use mesh_common::abi::BackendEntry;
use mesh_common::flow::FlowRecord;
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, SIZES};
use mesh_userspace::dataplane::kernel::Sizes;

use crate::frame::Frame;
use crate::world::{SLOTS, Way, services, xdp};

/// Who owned the slot before.
pub(crate) const OLD: u32 = 1;
/// Who owns it now.
pub(crate) const NEW: u32 = 2;
/// Neither, and alive.
pub(crate) const OTHER: u32 = 3;
/// Neither, and dead.
pub(crate) const DEAD: u32 = 4;
/// Nobody has this id.
pub(crate) const ABSENT: u32 = 5;

/// A lab whose backends are told apart by the last byte of their Ethernet address.
pub(crate) fn lab() -> Lab {
    lab_of_size(SIZES)
}

pub(crate) fn lab_of_size(sizes: Sizes) -> Lab {
    let mut lab = Lab::of_size(sizes).unwrap();
    for id in [OLD, NEW, OTHER, DEAD] {
        let last = u8::try_from(id).unwrap();
        let entry = BackendEntry { destination_mac: [2, 0, 0, 0, 0, last], ..Way::L2.entry() };
        lab.backend(id, BackendEntry { alive: u8::from(id != DEAD), ..entry }).unwrap();
    }
    for (id, key) in (1..).zip(services()) {
        lab.service(key, id, id * SLOTS, SLOTS, Slot::steady(NEW)).unwrap();
    }
    lab
}

/// The record of a client at a service, if there is one.
pub(crate) fn record(lab: &mut Lab, client: SocketAddr, service: u32) -> Option<FlowRecord> {
    let flows = lab.flows().unwrap();
    let mut own = flows.iter().filter(|flow| (flow.client, flow.service) == (client, service));
    own.next().map(|flow| flow.record)
}

/// Sends a packet; answers who got it.
pub(crate) fn send(lab: &mut Lab, frame: &Frame) -> u32 {
    let (action, output) = lab.send(&frame.bytes()).unwrap();
    assert_eq!(action, xdp::TX);
    u32::from(output[5])
}
