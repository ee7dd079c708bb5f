//! The packet's way, read from top to bottom.

use crate::{
    client::Client,
    forward, maps,
    parse::{self, Flow, IP},
    wide,
};
use mesh_common::{
    abi::ServiceEntry,
    flow::{Segment, decide},
    outcome::Outcome,
    table,
};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6},
    packet::Packet,
};

/// Takes a packet to its outcome, and counts it.
#[inline(always)]
pub(crate) fn run(packet: Packet) -> Outcome {
    let outcome = steer_any(packet).unwrap_or_else(|outcome| outcome);
    maps::count(outcome);
    outcome
}

#[inline(always)]
fn steer_any(packet: Packet) -> Result<Outcome, Outcome> {
    let ethernet: &Ethernet = packet.view(0).ok_or(Outcome::Truncated)?;
    match ethernet.kind {
        IPV4 => {
            let mut flow = parse::ipv4(&packet)?;
            steer(packet, &mut flow)
        }
        IPV6 => {
            let mut flow = parse::ipv6(&packet)?;
            steer(packet, &mut flow)
        }
        _ => Err(Outcome::NotIp),
    }
}

#[inline(always)]
fn steer<C: Client>(packet: Packet, flow: &mut Flow<C>) -> Result<Outcome, Outcome> {
    let service = maps::service(flow.service).map_or_else(|| wide::adopt(flow), Ok)?;
    if !is_whole(&packet, flow) {
        return Err(Outcome::BadLength);
    }
    let hash = wide::hash(flow, service);
    let choice = choose(flow, service, hash).ok_or(Outcome::NoBackend)?;
    let backend = maps::backend(choice.backend).ok_or(Outcome::NoBackend)?;
    let room = forward::room(backend)?;
    if flow.length > room {
        return too_big(packet, flow, room);
    }
    let outcome = forward::to(packet, flow, backend, hash)?;
    maps::count_backend(choice.backend, flow.length, choice.opened);
    Ok(outcome)
}

/// A packet longer than the way to its backend allows. Errors are not answered by errors (RFC 1122 §3.2.2).
#[inline(always)]
fn too_big<C: Client>(packet: Packet, flow: &Flow<C>, room: u16) -> Result<Outcome, Outcome> {
    if flow.segment == Segment::Related { Err(Outcome::TooBig) } else { C::tell(packet, room) }
}

/// Whether the packet ends where its IP header says: behind its headers, within the frame.
#[inline(always)]
fn is_whole<C>(packet: &Packet, flow: &Flow<C>) -> bool {
    let length = usize::from(flow.length);
    length >= flow.headers && packet.holds(IP + length)
}

struct Choice {
    backend: u32,
    opened: bool,
}

/// Who gets the packet: the slot's owner, or at a slot that consults the flow table, whom [`decide`] names.
#[inline(always)]
fn choose<C: Client>(flow: &Flow<C>, service: &ServiceEntry, hash: u64) -> Option<Choice> {
    let slot = maps::slot(service, hash)?;
    let syn = flow.segment == Segment::Opening;
    if !slot.consults() {
        return Some(Choice { backend: slot.current(), opened: syn });
    }
    let (tag, now) = (table::tag(hash, service.id), maps::now());
    let found = maps::flow(tag, now);
    let known = found.map(|(_, record)| (record, maps::is_alive(record.backend)));
    let decision = decide(slot, flow.segment, known, now);
    match (&decision.record, found) {
        (Some(record), Some((place, _))) => place.write(tag, record),
        (Some(record), None) => maps::record(tag, record, now, &flow.client.named(tag, service.id)),
        (None, _) => {}
    }
    let first_datagram = flow.segment == Segment::Datagram && found.is_none() && decision.record.is_some();
    Some(Choice { backend: decision.backend, opened: syn || first_datagram })
}
