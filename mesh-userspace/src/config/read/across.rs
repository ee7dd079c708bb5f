//! What only all services together can tell: identities that appear twice, and limits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::ops::Range;

use super::discovery;
use super::report::Report;
use super::service::Placed;
use crate::config::{Limits, Problem, ServiceKey};
use crate::dataplane::abi_key;
use crate::wide;

pub(super) fn check(services: &[Placed], limits: Limits, report: &mut Report) {
    check_names(services, report);
    check_keys(services, report);
    check_overlaps(services, report);
    discovery::check_shared(services, report);
    check_rules(services, limits, report);
    check_services(services, limits, report);
    check_backends(services, limits, report);
    check_slots(services, limits, report);
}

fn check_names(services: &[Placed], report: &mut Report) {
    for (first, second) in repeated(services, |placed| placed.service.name.as_str()) {
        let (name, line) = (&second.service.name, report.line(first.name.start, second.name.start));
        let problem = Problem::new(format!("the name {name:?} is already the service's in line {line}"))
            .advise("give every service a name of its own");
        report.add(problem.at(second.name.clone()).beside(first.name.clone(), "first here"));
    }
}

/// QUIC and UDP are one protocol to packets.
fn check_keys(services: &[Placed], report: &mut Report) {
    let identity = |placed: &Placed| {
        let key = placed.service.key();
        ServiceKey { protocol: key.protocol.transport(), ..key }
    };
    for (first, second) in repeated(services, identity) {
        let (key, line) = (second.service.key(), report.line(first.vip.start, second.vip.start));
        let as_udp = if key == first.service.key() { "" } else { ", for QUIC is UDP" };
        let name = &first.service.name;
        let problem = Problem::new(format!("{key} is already the service {name:?} in line {line}{as_udp}"))
            .advise("change the VIP, port or protocol, or move the backends to the first service");
        report.add(problem.at(second.vip.clone()).beside(first.vip.clone(), "first here"));
    }
}

/// Of two services of one VIP and protocol the one with fewer ports is the more specific, which tells nothing where
/// each has ports that the other has not.
fn check_overlaps(services: &[Placed], report: &mut Report) {
    let mut sorted: Vec<&Placed> = services.iter().collect();
    sorted.sort_by_key(|placed| {
        let ServiceKey { vip, ports, protocol } = placed.service.key();
        (vip, protocol, ports.first(), u16::MAX - ports.last())
    });
    // Those whose ports reach up to the present one's or beyond, each within the one before.
    let mut around: Vec<&Placed> = Vec::new();
    for placed in sorted {
        while around.pop_if(|outer| !reaches(outer, placed)).is_some() {}
        if let Some(outer) =
            around.last().filter(|outer| outer.service.ports.last() < placed.service.ports.last())
        {
            report.add(overlap(outer, placed, report));
        }
        around.push(placed);
    }
}

fn reaches(outer: &Placed, placed: &Placed) -> bool {
    let (one, other) = (outer.service.key(), placed.service.key());
    (one.vip, one.protocol) == (other.vip, other.protocol) && one.ports.last() >= other.ports.first()
}

fn overlap(one: &Placed, other: &Placed, report: &Report) -> Problem {
    let (first, second) = if one.ports.start < other.ports.start { (one, other) } else { (other, one) };
    let message = format!(
        "{} overlaps {}, the service {:?} in line {}, in part",
        second.service.key(),
        first.service.key(),
        first.service.name,
        report.line(first.ports.start, second.ports.start)
    );
    Problem::new(message)
        .advise(
            "let one of the ranges of ports contain the other, which is then the one that counts, or none",
        )
        .at(second.ports.clone())
        .beside(first.ports.clone(), "first here")
}

fn check_rules(services: &[Placed], limits: Limits, report: &mut Report) {
    let keys: Vec<_> = services.iter().map(|placed| abi_key(placed.service.key())).collect();
    let most = index(limits.rules).unwrap_or(usize::MAX);
    let last = services.iter().zip(&keys).rfind(|(_, key)| key.is_wide());
    if let (None, Some((placed, _))) = (wide::count(&keys, most), last) {
        let message = format!("ranges of ports and prefixes make more than {most} rules, which do not fit");
        report.add(too_many(message, "rules", &placed.ports));
    }
}

/// Each service whose identity an earlier one has, after that one.
fn repeated<'a, K: Eq + Hash>(
    services: &'a [Placed],
    identity: impl Fn(&'a Placed) -> K,
) -> Vec<(&'a Placed, &'a Placed)> {
    let mut seen = HashMap::new();
    let first = |placed| match seen.entry(identity(placed)) {
        Entry::Occupied(first) => Some((*first.get(), placed)),
        Entry::Vacant(free) => {
            free.insert(placed);
            None
        }
    };
    services.iter().filter_map(first).collect()
}

fn check_services(services: &[Placed], limits: Limits, report: &mut Report) {
    let over = index(limits.services).and_then(|limit| services.get(limit));
    if let Some(placed) = over {
        let message = format!("there are {} services, at most {} fit", services.len(), limits.services);
        report.add(too_many(message, "services", &placed.header));
    }
}

fn check_backends(services: &[Placed], limits: Limits, report: &mut Report) {
    let all = || services.iter().flat_map(|placed| &placed.backends);
    let over = index(limits.backends).and_then(|limit| all().nth(limit));
    if let Some(span) = over {
        let message = format!("there are {} backends, at most {} fit", all().count(), limits.backends);
        report.add(too_many(message, "backends", span));
    }
}

fn check_slots(services: &[Placed], limits: Limits, report: &mut Report) {
    let mut sum = 0_u64;
    for placed in services {
        let size = placed.service.table_size();
        sum = sum.saturating_add(size.into());
        if sum > limits.slots.into() {
            let span = placed.table_size.as_ref().unwrap_or(&placed.header);
            let message = format!(
                "with this table of {size} slots there are {sum} slots, at most {} fit",
                limits.slots
            );
            report.add(too_many(message, "slots", span));
            return;
        }
    }
}

fn too_many(message: String, limit: &str, span: &Range<usize>) -> Problem {
    Problem::new(message)
        .advise(format!("raise `{limit}` in [limits], which needs a restart of the agent"))
        .at(span.clone())
        .of_a_limit()
}

fn index(limit: u32) -> Option<usize> {
    usize::try_from(limit).ok()
}
