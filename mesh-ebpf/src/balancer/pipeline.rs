//! The whole way, which any packet may take, read from top to bottom.

use crate::{
    client::Client,
    flows, forward, maps,
    parse::{self, Flow, IP},
    quic, schedule,
    tables::Tables,
    wide,
};
use mesh_common::{
    abi::{BackendEntry, ServiceEntry, flag},
    flow::{Segment, Signs, decide, unrecorded},
    outcome::Outcome,
    slot::Slot,
    table,
};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6},
    packet::Packet,
};

/// Takes a packet to its outcome, and counts it. What is sent to a backend is counted with the backend.
#[inline(always)]
pub(crate) fn run(packet: Packet) -> Outcome {
    steer_any(packet).unwrap_or_else(|outcome| {
        maps::count(outcome);
        outcome
    })
}

/// How the packet was sent to a backend, or why it was not.
#[inline(always)]
fn steer_any(packet: Packet) -> Result<Outcome, Outcome> {
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let ethernet: &Ethernet = packet.view(0).ok_or(Outcome::Truncated)?;
    match ethernet.kind {
        IPV4 => {
            let mut flow = parse::ipv4(&packet)?;
            steer(packet, tables, &mut flow)
        }
        IPV6 => {
            let mut flow = parse::ipv6(&packet)?;
            steer(packet, tables, &mut flow)
        }
        _ => Err(Outcome::NotIp),
    }
}

#[inline(always)]
fn steer<C: Client>(packet: Packet, tables: Tables, flow: &mut Flow<C>) -> Result<Outcome, Outcome> {
    let service = tables.service(flow.service).map_or_else(|| wide::adopt(flow), Ok)?;
    if !is_whole(&packet, flow) {
        return Err(Outcome::BadLength);
    }
    let hash = wide::hash(flow, service);
    let choice = match quic::backend(&packet, flow, service) {
        Some(backend) => Choice { backend, opened: false },
        None if service.flags & (flag::SCHEDULER | flag::CAPPED) != 0 => {
            schedule::choose(flow, service, hash)?
        }
        None => choose(tables, flow, service, hash).ok_or(Outcome::NoBackend)?,
    };
    let backend = tables.backend(choice.backend).filter(|entry| entry.forward != 0);
    let backend = backend.ok_or(Outcome::NoBackend)?;
    match backend.room {
        0 => return Err(Outcome::NoNextHop),
        room if flow.length > room => return Err(too_big(packet, flow, backend)),
        _ => {}
    }
    let sent = forward::to::<C, true>(packet, flow, backend, hash)?;
    maps::count_sent(choice.backend, sent, flow.length, choice.opened);
    Ok(sent)
}

/// A packet longer than the way to its backend allows. Errors are not answered by errors (RFC 1122 §3.2.2).
#[inline(always)]
fn too_big<C: Client>(packet: Packet, flow: &Flow<C>, backend: &BackendEntry) -> Outcome {
    if flow.signs == Signs::RELATED {
        return Outcome::TooBig;
    }
    C::tell(packet, backend.room, backend.tell != 0).map_or(Outcome::TooBig, |()| Outcome::TooBigTold)
}

/// Whether the packet ends where its IP header says: behind its headers, within the frame.
#[inline(always)]
fn is_whole<C>(packet: &Packet, flow: &Flow<C>) -> bool {
    let length = usize::from(flow.length);
    length >= flow.headers && packet.holds(IP + length)
}

/// Who gets a packet.
pub(crate) struct Choice {
    /// The backend's id.
    pub(crate) backend: u32,
    /// Whether a flow begins.
    pub(crate) opened: bool,
}

/// Who gets the packet: whom the slot names, or the flow's record where that has a say.
#[inline(always)]
fn choose<C: Client>(tables: Tables, flow: &Flow<C>, service: &ServiceEntry, hash: u64) -> Option<Choice> {
    let slot = tables.slot(service, hash)?;
    let owner = owner(tables, flow, service, slot, hash);
    Some(owner.map_or_else(|| tracked(tables, flow, service, slot, hash), |owner| owned(flow, owner)))
}

/// Whom the slot names, if no record has a say: the slot does not consult the flow table, or the flow surely has none.
#[inline(always)]
pub(crate) fn owner<C>(
    tables: Tables,
    flow: &Flow<C>,
    service: &ServiceEntry,
    slot: Slot,
    hash: u64,
) -> Option<u32> {
    if !slot.consults() {
        return Some(slot.current());
    }
    let owner = unrecorded(slot, flow.signs.opens())?;
    (!flows::may_be_recorded(tables, table::key(hash, service.id))).then_some(owner)
}

/// Who gets a packet without a record.
#[inline(always)]
pub(crate) fn owned<C>(flow: &Flow<C>, owner: u32) -> Choice {
    Choice { backend: owner, opened: flow.signs.opens() }
}

/// Whom [`decide`] names, after a look at the flow's record, which is written anew.
#[inline(always)]
pub(crate) fn tracked<C: Client>(
    tables: Tables,
    flow: &Flow<C>,
    service: &ServiceEntry,
    slot: Slot,
    hash: u64,
) -> Choice {
    let segment = flow.signs.segment();
    let (key, now) = (table::key(hash, service.id), maps::now());
    let found = flows::find(tables, key, now);
    let known = found.map(|(_, record)| (record, tables.is_alive(record.backend)));
    let decision = decide(slot, segment, known, now);
    match (&decision.record, found) {
        (Some(record), Some((place, _))) => place.write(key, record),
        (Some(record), None) => {
            flows::record(tables, key, record, now, &flow.client.named(key, service.id));
        }
        (None, _) => {}
    }
    let first_datagram = segment == Segment::Datagram && found.is_none() && decision.record.is_some();
    Choice { backend: decision.backend, opened: segment == Segment::Opening || first_datagram }
}
