//! The whole way, which any packet may take, read from top to bottom.

use crate::{
    client::{Client, Client4, Client6},
    echo, forward, fragments, maps,
    parse::{self, Flow, IP, Ip},
    tables::Tables,
    vlan::{self, Tags},
};
use aya_ebpf::programs::XdpContext;
use mesh_common::{
    abi::ServiceEntry,
    flow::{Segment, Signs, decide},
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
pub(crate) fn run(context: &XdpContext) -> Outcome {
    let tags = vlan::take_off(context);
    steer_any(context, tags).unwrap_or_else(|outcome| {
        // Nothing can be wrong: what was not sent has the room that the tags left.
        let _ = vlan::put_back(context, tags);
        maps::count(outcome);
        outcome
    })
}

/// How the packet was sent to a backend, or why it was not.
#[inline(always)]
fn steer_any(context: &XdpContext, tags: Tags) -> Result<Outcome, Outcome> {
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let packet = Packet::new(context);
    let ethernet: &Ethernet = packet.view(0).ok_or(Outcome::Truncated)?;
    match ethernet.kind {
        IPV4 => steer_ip::<Client4>(context, packet, tables, tags),
        IPV6 => steer_ip::<Client6>(context, packet, tables, tags),
        _ => Err(Outcome::NotIp),
    }
}

#[inline(always)]
fn steer_ip<C: Client>(
    context: &XdpContext,
    mut packet: Packet,
    tables: Tables,
    tags: Tags,
) -> Result<Outcome, Outcome> {
    let mut ip = C::parse(&packet, IP)?;
    ip.settle(&packet);
    if let Some(end) = echo::answer::<C>(&mut packet, &ip) {
        return Err(end);
    }
    let end = parse::flow::<C>(&packet, &ip).and_then(|flow| {
        let owner = owner(&packet, tables, &ip, &flow)?;
        let sent = deliver(context, packet, tables, tags, &flow, &owner)?;
        Ok((sent, owner))
    });
    fragments::note::<C>(&ip, &end);
    end.map(|(sent, _)| sent)
}

/// Who gets the packet.
#[inline(always)]
fn owner<C: Client>(
    packet: &Packet,
    tables: Tables,
    ip: &Ip<C::Address>,
    flow: &Flow<C>,
) -> Result<Owner, Outcome> {
    if let Some(id) = ip.part.of_later() {
        let owner = fragments::owner::<C>(tables, ip, id)?;
        return if is_whole(packet, flow) { Ok(owner) } else { Err(Outcome::BadLength) };
    }
    let service = tables.service(flow.service).ok_or(Outcome::NotAService)?;
    if !is_whole(packet, flow) {
        return Err(Outcome::BadLength);
    }
    let hash = flow.client.hash();
    let Choice { backend, opened } = choose(tables, flow, service, hash).ok_or(Outcome::NoBackend)?;
    Ok(Owner { backend, service: service.id, hash, opened })
}

/// Sends the packet to its backend, with its tags if it leaves where it came in.
#[inline(always)]
fn deliver<C: Client>(
    context: &XdpContext,
    packet: Packet,
    tables: Tables,
    tags: Tags,
    flow: &Flow<C>,
    owner: &Owner,
) -> Result<Outcome, Outcome> {
    let backend = tables.backend(owner.backend).filter(|entry| entry.forward != 0);
    let backend = backend.ok_or(Outcome::NoBackend)?;
    match backend.room {
        0 => return Err(Outcome::NoNextHop),
        room if flow.length > room => return Err(too_big(packet, flow, room)),
        _ => {}
    }
    let sent = forward::to(packet, flow, backend, owner.hash)?;
    if let Outcome::Transmitted = sent {
        vlan::put_back(context, tags).ok_or(Outcome::NoHeadroom)?;
    }
    maps::count_sent(owner.backend, sent, flow.length, owner.opened);
    Ok(sent)
}

/// A packet longer than the way to its backend allows. Neither errors nor later fragments are answered by errors
/// (RFC 1122 §3.2.2).
#[inline(always)]
fn too_big<C: Client>(packet: Packet, flow: &Flow<C>, room: u16) -> Outcome {
    if flow.signs == Signs::RELATED {
        return Outcome::TooBig;
    }
    C::tell(packet, room).map_or(Outcome::TooBig, |()| Outcome::TooBigTold)
}

/// Whether the packet ends where its IP header says: behind its headers, within the frame.
#[inline(always)]
fn is_whole<C>(packet: &Packet, flow: &Flow<C>) -> bool {
    let length = usize::from(flow.length);
    length >= flow.headers && packet.holds(IP + length)
}

/// Who gets a packet, and what later fragments of it need to know.
pub(crate) struct Owner {
    /// The backend's id.
    pub(crate) backend: u32,
    /// The id of its service.
    pub(crate) service: u32,
    /// The hash of the flow.
    pub(crate) hash: u64,
    /// Whether a flow begins.
    pub(crate) opened: bool,
}

/// Who gets a packet.
pub(crate) struct Choice {
    /// The backend's id.
    pub(crate) backend: u32,
    /// Whether a flow begins.
    pub(crate) opened: bool,
}

/// Who gets the packet: the slot's owner, or at a slot that consults the flow table, whom the flow's record names.
#[inline(always)]
fn choose<C: Client>(tables: Tables, flow: &Flow<C>, service: &ServiceEntry, hash: u64) -> Option<Choice> {
    let slot = tables.slot(service, hash)?;
    Some(if slot.consults() { tracked(tables, flow, service, slot, hash) } else { steady(flow, slot) })
}

/// Who gets a packet of a steady slot.
#[inline(always)]
pub(crate) fn steady<C>(flow: &Flow<C>, slot: Slot) -> Choice {
    Choice { backend: slot.current(), opened: flow.signs.opens() }
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
    let (tag, now) = (table::tag(hash, service.id), maps::now());
    let found = maps::flow(tag, now);
    let known = found.map(|(_, record)| (record, tables.is_alive(record.backend)));
    let decision = decide(slot, segment, known, now);
    match (&decision.record, found) {
        (Some(record), Some((place, _))) => place.write(tag, record),
        (Some(record), None) => maps::record(tag, record, now, &flow.client.named(tag, service.id)),
        (None, _) => {}
    }
    let first_datagram = segment == Segment::Datagram && found.is_none() && decision.record.is_some();
    Choice { backend: decision.backend, opened: segment == Segment::Opening || first_datagram }
}
