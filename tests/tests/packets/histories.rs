//! Random histories of a service's table, with clients that know who answered them: no live flow moves.

use mesh_common::lifecycle::Tracking;
use mesh_tests::lab::{Lab, SIZES};
use mesh_userspace::dataplane::kernel::Sizes;

use crate::history::History;
use crate::random::Random;
use crate::world::{SLOTS, services};

/// How many histories there are, unless the environment asks for more.
const HISTORIES: u64 = 200;
const VARIABLE: &str = "MESHLB_HISTORIES";

/// What happens in each.
const EVENTS: usize = 200;

fn histories() -> u64 {
    let asked = std::env::var(VARIABLE).ok();
    asked.map_or(HISTORIES, |asked| {
        asked.parse().unwrap_or_else(|_| panic!("{VARIABLE} is no number: {asked}"))
    })
}

#[test]
fn no_live_flow_changes_its_backend_in_any_history_of_its_table() {
    // A small flow table, still with room for all, is looked through faster.
    let mut lab = Lab::of_size(Sizes { flows: 200, ..SIZES }).unwrap();
    for (id, key) in (1..).zip(services()) {
        lab.service(key, id, id * SLOTS, SLOTS, mesh_common::slot::Slot::default()).unwrap();
    }
    let mut packets = 0;
    for seed in 0..histories() {
        let random = Random(seed);
        let service = 1 + u32::try_from(seed % 4).unwrap();
        let tracking = if seed / 4 % 3 == 0 { Tracking::Always } else { Tracking::Adaptive };
        let mut history = History::begin(&mut lab, random, service, tracking);
        for event in 0..EVENTS {
            history.step().unwrap_or_else(|error| panic!("history {seed}, event {event}: {error}"));
        }
        packets += history.end().unwrap_or_else(|error| panic!("history {seed}, at its end: {error}"));
    }
    // A history without live flows would prove nothing.
    assert!(packets > 20 * histories(), "{packets} packets of live flows");
    println!("{packets} packets of live flows in {} histories", histories());
}
