//! Compiled routes agree with a naive search for the most specific service, and changes disturb nobody else.

use super::*;
use mesh_common::{
    abi::{halves, protocol, whole},
    encap::map_ipv4,
};
use proptest::prelude::*;

/// Few addresses and ports, so that services nest and meet.
const PORTS: [u16; 12] = [0, 1, 79, 80, 81, 443, 7999, 8000, 8050, 8100, 8101, u16::MAX];
const PROTOCOLS: [u8; 4] = [protocol::TCP, protocol::UDP, 132, 50];

fn address(bits: u8) -> [u8; 16] {
    // Bits 0 and 1 of the last byte, 2 and 3 of the third: prefixes of 8, 22 to 24, and 30 to 32 tell them apart.
    map_ipv4([203, 0, 112 + (bits >> 2 & 3), bits & 3])
}

fn addresses() -> impl Iterator<Item = [u8; 16]> {
    (0..16).map(address).chain([map_ipv4([203, 1, 0, 0]), map_ipv4([10, 0, 0, 1])])
}

fn service() -> impl Strategy<Value = ServiceKey> {
    let ports = prop_oneof![
        Just([0, u16::MAX]),
        Just([8000, 8100]),
        Just([8050, 8100]),
        Just([8000, 8000]),
        Just([80, 443]),
        Just([1, 8100]),
    ];
    let lengths = prop::sample::select(vec![8u8, 22, 23, 24, 30, 31, 32]);
    let numbers = prop::sample::select(vec![protocol::TCP, protocol::UDP, 0]);
    (0u8..16, lengths, ports, numbers).prop_map(|(bits, length, ports, number)| {
        let ports = if number == 0 { [0, u16::MAX] } else { ports };
        let [.., a, b, c, d] = Prefix::around(address(bits), 96 + length).address;
        ServiceKey::wide4([a, b, c, d], length, ports, number)
    })
}

/// Whether the ranges of two services of one prefix and protocol overlap in part, which no configuration does.
fn clash(one: Extent, other: Extent) -> bool {
    let same = (one.address, one.length, one.protocol) == (other.address, other.length, other.protocol);
    let apart = one.last < other.first || other.last < one.first;
    let within = |a: Extent, b: Extent| a.first >= b.first && a.last <= b.last;
    same && !apart && !within(one, other) && !within(other, one)
}

/// Services with an id each, in the order of their keys.
fn services() -> impl Strategy<Value = BTreeMap<ServiceKey, ServiceEntry>> {
    prop::collection::vec(service(), 0..10).prop_map(|keys| {
        let mut services: BTreeMap<ServiceKey, ServiceEntry> = BTreeMap::new();
        for key in keys {
            let extent = key.extent().unwrap();
            if !services.keys().any(|known| clash(known.extent().unwrap(), extent)) {
                // The same service is the same entry before and after a change.
                let [id, ..] = mesh_common::hash::service(key, u32::MAX);
                services.insert(key, ServiceEntry { key, id, size: 1, ..ServiceEntry::default() });
            }
        }
        services
    })
}

/// Who should get a packet: the most specific of all services that own its destination.
fn wanted(
    services: &BTreeMap<ServiceKey, ServiceEntry>,
    to: [u8; 16],
    number: u8,
    port: u16,
) -> Option<ServiceEntry> {
    let owns = |extent: &Extent| {
        let prefix = Prefix { address: extent.address, length: extent.length };
        prefix.contains(Prefix { address: to, length: 128 })
            && (extent.protocol == 0 || extent.protocol == number)
            && (extent.first..=extent.last).contains(&port)
    };
    let rank =
        |extent: Extent| (extent.length, u16::MAX - (extent.last - extent.first), extent.protocol != 0);
    let owners = services.values().filter(|entry| entry.key.extent().as_ref().is_some_and(owns));
    owners.max_by_key(|entry| rank(entry.key.extent().unwrap())).copied()
}

/// Every packet that is worth a look; a protocol without ports has port 0.
fn packets() -> Vec<([u8; 16], u8, u16)> {
    let to = |address| {
        PROTOCOLS.into_iter().flat_map(move |number| {
            let ports = if class(number) == 0 { &PORTS[..1] } else { &PORTS[..] };
            ports.iter().map(move |port| (address, number, *port))
        })
    };
    addresses().flat_map(to).collect()
}

fn carry_out(routes: &mut Routes, step: Step) {
    match step {
        Step::SetRule(rule, entry) => drop(routes.rules.insert(rule, entry)),
        Step::RemoveRule(rule) => drop(routes.rules.remove(&rule)),
        Step::SetGroup(prefix, group) => drop(routes.groups.insert(prefix, group)),
        Step::RemoveGroup(prefix) => drop(routes.groups.remove(&prefix)),
        Step::Grace => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_most_specific_service_gets_the_packet(services in services()) {
        let routes = Routes::compile(services.values(), &Routes::default());
        for (to, number, port) in packets() {
            let wanted = wanted(&services, to, number, port);
            prop_assert_eq!(routes.find(to, number, port).copied(), wanted, "{:?} {} {}", to, number, port);
        }
    }

    #[test]
    fn rules_are_counted_without_making_them(services in services()) {
        let routes = Routes::compile(services.values(), &Routes::default());
        let keys: Vec<ServiceKey> = services.keys().copied().collect();
        prop_assert_eq!(count(&keys, usize::MAX), Some(routes.rules.len()));
        prop_assert_eq!(count(&keys, routes.rules.len()), Some(routes.rules.len()));
        prop_assert_eq!(prefixes(&keys), routes.groups.len());
        if let Some(less) = routes.rules.len().checked_sub(1) {
            prop_assert_eq!(count(&keys, less), None);
        }
    }

    #[test]
    fn what_is_found_is_told_from_what_is_wanted(before in services(), after in services()) {
        let routes = Routes::compile(before.values(), &Routes::default());
        let found = |services: &BTreeMap<_, _>| {
            Routes::found(routes.groups.clone(), routes.rules.clone(), services.values())
        };
        prop_assert!(routes.is_of(before.values()) && found(&before).is_of(before.values()));
        prop_assert_eq!(found(&after).is_of(after.values()), before == after);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(15))]

    /// A packet looks at `GROUPS` at one moment and at `RULES` at a later one, unless everybody waited for it between them.
    #[test]
    fn a_change_disturbs_no_packet_of_a_service_that_stays(
        first in services(), before in services(), after in services(),
    ) {
        let mut routes = Routes::compile(before.values(), &Routes::compile(first.values(), &Routes::default()));
        let next = Routes::compile(after.values(), &routes);
        let same: Vec<_> = packets()
            .into_iter()
            .step_by(5)
            .filter_map(|(to, number, port)| {
                let answer = wanted(&before, to, number, port);
                (answer == wanted(&after, to, number, port)).then_some((to, number, port, answer))
            })
            .collect();
        let mut on_the_way: Vec<Vec<Option<u32>>> = Vec::new();
        for step in steps(&routes.clone(), &next).into_iter().map(Some).chain([None]) {
            on_the_way.push(same.iter().map(|(to, ..)| routes.group(*to)).collect());
            if step == Some(Step::Grace) {
                on_the_way.clear();
            }
            for groups in &on_the_way {
                for ((to, number, port, answer), group) in same.iter().zip(groups) {
                    let got = group.and_then(|group| routes.rule(group, *number, *port)).copied();
                    prop_assert_eq!(got, *answer, "{:?} {} {} before {:?}", to, number, port, step);
                }
            }
            step.into_iter().for_each(|step| carry_out(&mut routes, step));
        }
        prop_assert_eq!((&routes.groups, &routes.rules), (&next.groups, &next.rules));
    }
}

#[test]
fn nothing_to_change_takes_no_steps() {
    let key = ServiceKey::wide6(whole(halves([0x20; 16])), 128, [1, 9], protocol::TCP);
    let entry = ServiceEntry { key, id: 1, size: 1, ..ServiceEntry::default() };
    let routes = Routes::compile([&entry], &Routes::default());
    assert_eq!(steps(&routes, &Routes::compile([&entry], &routes)), []);
    let changed = ServiceEntry { base: 7, ..entry };
    let again = Routes::compile([&changed], &routes);
    assert!(steps(&routes, &again).iter().all(|step| matches!(step, Step::SetRule(..))));
}

#[test]
fn services_of_both_families_do_not_meet() {
    let key = ServiceKey::wide6(Prefix::around([0x20; 16], 8).address, 8, [0, u16::MAX], 0);
    let entry = ServiceEntry { key, id: 1, size: 1, ..ServiceEntry::default() };
    let routes = Routes::compile([&entry], &Routes::default());
    assert!(routes.find([0x20; 16], 6, 80).is_some());
    assert!(routes.find(map_ipv4([0x20; 4]), 6, 80).is_none());
}
