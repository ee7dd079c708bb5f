//! What `meshlb check` says about memory is what the kernel says of the maps.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::MapData;
use aya::util::nr_cpus;
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, SIZES};
use mesh_userspace::config::{Ports, Protocol, ServiceKey};
use mesh_userspace::dataplane::kernel::{InTries, MapMemory, memory};
use mesh_userspace::dataplane::{Actual, Dataplane as _};

/// What the kernel needs to know of a map at all: bytes.
const ADMINISTRATION: u64 = 8192;

/// What the kernel says that a map takes: bytes (since 6.4 without guessing).
fn taken(lab: &Lab, map: &str) -> u64 {
    let pinned = MapData::from_pin(lab.pins().map(map)).unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pinned.fd().as_fd().as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn the_memory_of_each_map_is_foretold() {
    let mut lab = Lab::new().unwrap();
    for service in 1..=50u8 {
        let ports = Ports::range(8000, 8000 + u16::from(service)).unwrap();
        let key = ServiceKey { ports, ..ServiceKey::exact([203, 0, 113, service].into(), 0, Protocol::Tcp) };
        lab.service(key, service.into(), 0, 7, Slot::default()).unwrap();
    }
    let Actual { vips, routes, .. } = lab.kernel.read().unwrap();
    let [vips, groups, rules] =
        [vips.len(), routes.groups.len(), routes.rules.len()].map(|n| u32::try_from(n).unwrap());
    let cpus = u32::try_from(nr_cpus().unwrap()).unwrap();
    let foretold = memory(SIZES, InTries { vips, groups, rules }, cpus);
    let names: BTreeMap<&str, u64> = foretold.iter().map(|one| (one.map, one.bytes)).collect();
    assert_eq!(names.len(), foretold.len());
    for MapMemory { map, bytes, .. } in foretold {
        let taken = taken(&lab, map);
        if ["VIPS", "GROUPS", "RULES"].contains(&map) {
            // At most twice: nodes at which others part are not counted by the kernel.
            assert!((taken..=2 * taken).contains(&bytes), "{map}: {bytes} foretold, {taken} taken");
        } else {
            let rest =
                taken.checked_sub(bytes).unwrap_or_else(|| panic!("{map}: {bytes} foretold, {taken} taken"));
            assert!(rest <= ADMINISTRATION, "{map}: {bytes} foretold, {taken} taken");
        }
    }
}
