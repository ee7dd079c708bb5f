//! Packets of a service that cannot be delivered: dropped as they are, for the right reason.

use std::collections::BTreeMap;

use mesh_common::abi::{BackendEntry, ServiceEntry};
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_tests::lab::SIZES;
use mesh_userspace::dataplane::{Dataplane as _, Op, abi_key};

use crate::world::{BACKEND, Expected, SLOTS, Way, World, action, opening, services};

fn check_all(about: &str, world: &mut World, outcome: Outcome) {
    for service in services() {
        let input = opening(&service).bytes();
        world.check(&format!("{about}, {service:?}"), &input, &Expected::Kept(outcome));
    }
}

fn give_all(world: &mut World, slot: Slot) {
    let services = u32::try_from(services().len()).unwrap();
    world.lab.slots(SLOTS, services * SLOTS, slot).unwrap();
}

#[test]
fn a_slot_that_names_nobody_has_no_backend() {
    let mut world = World::new(Way::L2);
    let missing = 60;
    for id in [0, missing, SIZES.backends + 1, Slot::MAX_ID] {
        give_all(&mut world, Slot::steady(id));
        check_all(&format!("steady {id}"), &mut world, Outcome::NoBackend);
        give_all(&mut world, Slot::new(id, id, true, false));
        check_all(&format!("settling {id}"), &mut world, Outcome::NoBackend);
    }
    give_all(&mut world, Slot::steady(BACKEND));
    world.check_sent("given back", Way::L2, Outcome::Transmitted, &opening(&services()[0]));
}

#[test]
fn a_backend_that_was_removed_is_no_backend() {
    let mut world = World::new(Way::Ipv4);
    world.lab.kernel.apply(&Op::RemoveBackend { id: BACKEND }).unwrap();
    check_all("removed", &mut world, Outcome::NoBackend);
}

#[test]
fn a_service_whose_slots_lie_beyond_the_map_has_no_backend() {
    let mut world = World::new(Way::L2);
    for (id, service) in (1..).zip(services()) {
        let entry =
            ServiceEntry { key: abi_key(service), id, base: SIZES.slots, size: 1, ..ServiceEntry::default() };
        world.lab.kernel.apply(&Op::RemoveService(entry.key)).unwrap();
        world.lab.kernel.apply(&Op::AddService(entry)).unwrap();
    }
    check_all("beyond", &mut world, Outcome::NoBackend);
}

#[test]
fn a_way_that_nobody_knows_is_no_backend() {
    for forward in [10, 11, 255] {
        let mut world = World::with(BackendEntry { forward, ..Way::L2.entry() });
        check_all(&format!("way {forward}"), &mut world, Outcome::NoBackend);
    }
}

#[test]
fn a_backend_without_next_hop_gets_nothing() {
    for way in Way::ALL {
        let mut world = World::with(BackendEntry { room: 0, ..way.entry() });
        check_all(&format!("{way:?}"), &mut world, Outcome::NoNextHop);
        world.lab.backend(BACKEND, way.entry()).unwrap();
        world.check_sent("found", way, Outcome::Transmitted, &opening(&services()[0]));
    }
}

#[test]
fn a_driver_that_leaves_no_room_gets_its_packet_dropped_as_it_is() {
    // The head room is 256 bytes, of which the kernel needs 40 for itself (include/net/xdp.h, `struct xdp_frame`).
    const METADATA: usize = 200;
    for way in Way::ALL {
        let mut world = World::new(way);
        let room = way == Way::L2;
        let outcome = if room { Outcome::Transmitted } else { Outcome::NoHeadroom };
        for service in services() {
            let before = world.lab.counters(BACKEND).unwrap().packets();
            let input = opening(&service).bytes();
            let verdict = world.lab.run_behind(METADATA, &input).unwrap();
            assert_eq!(verdict.moved, BTreeMap::from([(outcome, 1)]), "{way:?}, {service:?}");
            assert_eq!(verdict.action, action(outcome));
            assert_eq!(verdict.packet == input, !room);
            assert_eq!(world.lab.counters(BACKEND).unwrap().packets(), before + u64::from(room));
        }
    }
}
