//! Translation: packets of services go to backends, and their answers to the clients, under other addresses and ports.
//!
//! ```text
//! client's packet:  nat (its connection) → sent | choose → connect (a port) → translate → sent
//! backend's packet: reply (its connection) → sent
//! ```
//!
//! Where the client came back with a cookie (`cookies`), its numbers are changed first (`splice`).
//! What is more than a whole packet of TCP or UDP within a family goes by way of `translate` from either.

use crate::{
    connections::{self, Known},
    deliver,
    floods::{self, State},
    forward, fragments, maps, notes,
    tables::Tables,
    translate, vlan,
};
use aya_ebpf::programs::XdpContext;
use mesh_common::{
    abi::{BackendEntry, Journey, programs},
    connection::{self, Way, sign},
    flow::{Segment, Signs},
    notes::step,
    outcome::Outcome,
    tuple::Tuple,
};
use mesh_ebpf::{header::Macs, packet::Packet};

/// What becomes of a packet at the end of a program.
pub(crate) enum End {
    /// Another program goes on with it.
    Next(u32),
    /// It was sent.
    Sent(Outcome),
}

/// Sends a client's packet by its connection, or says who begins one.
#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> Result<End, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let known = connections::connection(&tuple(journey));
    let Some((known, backend)) = known.and_then(|known| standing(tables, journey, known)) else {
        return without(journey, known.is_some()).map(End::Next);
    };
    let connection = known.get();
    journey.backend = connection.backend;
    notes::chosen(journey);
    notes::translated(step::CONNECTED, &connection.to);
    if notes::writes() {
        let way = way(&Packet::new(context), journey);
        if !is_same(&connection.way, &way) {
            known.turn_to(&way);
        }
        known.note(maps::now(), connection::of_client(journey.signs));
    }
    if connection.signs & sign::PROXIED != 0 {
        (journey.to, journey.proxied) = (connection.to, 1);
        let is_spliced = connection.signs & sign::SPLICED != 0;
        return Ok(End::Next(if is_spliced { programs::SPLICE } else { programs::COOKIE }));
    }
    if !translate::is_plain(journey, &connection.to) {
        journey.to = connection.to;
        return Ok(End::Next(programs::TRANSLATE));
    }
    let packet = fits(Packet::new(context), journey, &connection.to, backend.room)?;
    let packet = translate::within(packet, journey, &connection.to)?;
    to_backend(context, packet, journey, backend).map(End::Sent)
}

/// The connection of a client's packet, if it goes on, and its living backend.
#[inline(always)]
fn standing(tables: Tables, journey: &Journey, known: Known) -> Option<(Known, &'static BackendEntry)> {
    let connection = known.get();
    let backend = tables.backend(connection.backend)?;
    let stands = backend.alive != 0
        && backend.service == connection.service
        && (journey.backend == 0 || journey.backend == connection.backend)
        && !(journey.signs.opens() && connection::is_over(connection.signs));
    stands.then_some((known, backend))
}

/// Who goes on with a packet that has no connection, or has one that is over. Only what may begin one does, and in a flood
/// only what takes no room: a place that is taken anyway, or one for who comes back with a cookie.
#[inline(always)]
fn without(journey: &mut Journey, has_place: bool) -> Result<u32, Outcome> {
    let service = journey.service.id;
    match journey.signs.segment() {
        Segment::Opening if floods::begin(service, maps::now()) != State::Quiet && !has_place => {
            return Ok(programs::COOKIE);
        }
        Segment::Datagram if floods::begin(service, maps::now()) == State::Beyond => {
            return Err(Outcome::Flooded);
        }
        Segment::Opening | Segment::Datagram => {}
        Segment::Established if floods::expects_cookies(service) => return Ok(programs::COOKIE),
        Segment::Established | Segment::Closing | Segment::Related => return Err(Outcome::NotConnected),
    }
    Ok(if journey.backend == 0 { programs::CHOOSE } else { programs::CONNECT })
}

/// Sends a backend's packet to the client; what is not one of a connection goes on into the host.
#[inline(always)]
pub(crate) fn reply(context: &XdpContext) -> Result<End, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let reply = connections::reply(&tuple(journey)).ok_or(Outcome::NotAService)?;
    notes::translated(step::REPLY, &reply.to);
    let signs = connection::of_backend(journey.signs);
    let refused = connection::refuses(reply.signs, journey.signs);
    let now = maps::now();
    (journey.backend, journey.is_reply, journey.opened) = (reply.backend, 1, refused.into());
    if journey.signs != Signs::RELATED
        && (reply.told != now || reply.signs & signs != signs)
        && notes::writes()
        && let Some(known) = connections::connection(&reply.to.turned())
    {
        (reply.told, reply.signs) = (now, reply.signs | signs);
        known.note(now, signs);
    }
    let is_proxied = reply.signs & sign::PROXIED != 0;
    if is_proxied || !translate::is_plain(journey, &reply.to) {
        (journey.to, journey.way) = (reply.to, reply.way);
        return Ok(End::Next(if is_proxied { programs::SPLICE } else { programs::TRANSLATE }));
    }
    let packet = fits(Packet::new(context), journey, &reply.to, reply.way.room)?;
    let packet = translate::within(packet, journey, &reply.to)?;
    let way = reply.way;
    to_client(context, packet, journey, &way).map(End::Sent)
}

/// Sends a packet whose new tuple is noted, of whatever kind.
#[inline(always)]
pub(crate) fn of_any_kind(context: &XdpContext) -> Result<End, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let packet = Packet::new(context);
    if journey.is_reply != 0 {
        let packet = fits(packet, journey, &journey.to, journey.way.room)?;
        let packet = translate::run(packet, journey)?;
        let way = journey.way;
        return to_client(context, packet, journey, &way).map(End::Sent);
    }
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let backend = tables.backend(journey.backend).ok_or(Outcome::NoBackend)?;
    let packet = fits(packet, journey, &journey.to, backend.room)?;
    let packet = translate::run(packet, journey)?;
    to_backend(context, packet, journey, backend).map(End::Sent)
}

/// The packet, if the way takes what it becomes.
#[inline(always)]
fn fits(packet: Packet, journey: &Journey, to: &Tuple, room: u16) -> Result<Packet, Outcome> {
    let length = translate::length(journey, to);
    match room {
        0 => Err(Outcome::NoNextHop),
        // As much as it is too long afterwards it is too long now.
        _ if length > room => {
            Err(deliver::too_big(packet, journey, journey.length.saturating_sub(length - room), false))
        }
        _ => Ok(packet),
    }
}

/// Sends a translated packet to its backend, and counts it.
#[inline(always)]
fn to_backend(
    context: &XdpContext,
    mut packet: Packet,
    journey: &Journey,
    backend: &BackendEntry,
) -> Result<Outcome, Outcome> {
    let (first, rest) = backend.macs();
    packet.write(0, Macs(first, rest)).ok_or(Outcome::Truncated)?;
    deliver::conclude(context, journey, forward::send(packet.ingress(), backend.ifindex))
}

/// Sends a translated answer to the client, and counts it.
#[inline(always)]
fn to_client(
    context: &XdpContext,
    mut packet: Packet,
    journey: &mut Journey,
    way: &Way,
) -> Result<Outcome, Outcome> {
    packet.write(0, Macs(way.macs, way.macs_rest)).ok_or(Outcome::Truncated)?;
    let sent = if let Outcome::Transmitted = forward::send(packet.ingress(), way.ifindex) {
        Outcome::ReplyTransmitted
    } else {
        Outcome::ReplyRedirected
    };
    (journey.tags, journey.tag_count) = (way.tags, way.tag_count);
    vlan::put_back(context, journey).ok_or(Outcome::NoHeadroom)?;
    fragments::note_sent(journey);
    if notes::writes() {
        maps::count_reply(journey.backend, sent, journey.length, journey.opened != 0);
    }
    Ok(sent)
}

/// How answers reach whom a packet came from.
#[inline(always)]
pub(crate) fn way(packet: &Packet, journey: &Journey) -> Way {
    let macs = packet.view::<Macs>(0).map_or(Macs(0, 0), Macs::swapped);
    Way {
        macs: macs.0,
        macs_rest: macs.1,
        ifindex: packet.ingress(),
        tags: journey.tags,
        tag_count: journey.tag_count,
        room: 0,
        reserved: 0,
    }
}

/// Whether two ways are the same, but for their room.
#[inline(always)]
const fn is_same(one: &Way, other: &Way) -> bool {
    let tags = match one.tag_count {
        0 => true,
        1 => one.tags[0] == other.tags[0],
        _ => one.tags[0] == other.tags[0] && one.tags[1] == other.tags[1],
    };
    one.macs == other.macs
        && one.macs_rest == other.macs_rest
        && one.ifindex == other.ifindex
        && one.tag_count == other.tag_count
        && tags
}

/// The tuple of a packet, or that of the packets that an ICMP error is about, in the direction in which it goes.
#[inline(always)]
pub(crate) const fn tuple(journey: &Journey) -> Tuple {
    Tuple {
        source: journey.client,
        destination: journey.destination.address(),
        source_port: journey.port,
        destination_port: u16::from_ne_bytes(journey.destination.port()),
        protocol: journey.destination.protocol(),
        reserved: [0; 3],
    }
}
