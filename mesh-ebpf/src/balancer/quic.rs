//! Packets of QUIC services, as far as they go by their connection id.

use crate::{
    maps, notes,
    parse::{BEYOND, IP},
    tables::Tables,
};
use mesh_common::{
    abi::{flag, programs},
    notes::step,
    outcome::Outcome,
    quic::{self, Routed, ServerIdKey},
};
use mesh_ebpf::{
    header::{QuicLong, QuicShort},
    packet::Packet,
};

/// Notes the living backend that the connection id names, and says which program goes on with the packet: without such a
/// backend it goes by the hash of its flow.
#[inline(always)]
pub(crate) fn run(packet: &Packet) -> Result<u32, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let datagram =
        Datagram { at: IP + usize::from(journey.headers) % BEYOND, end: IP + usize::from(journey.length) };
    let mut rotation = 0;
    let found = find(packet, &datagram, journey.service.id, &mut rotation);
    let routed = found.err().unwrap_or(Routed::ConnectionId);
    notes::note(step::ROUTED, |notes| (notes.routed, notes.rotation) = (routed as u32, rotation));
    if notes::writes() {
        maps::count_routed(routed, rotation);
    }
    let translates = journey.service.flags & flag::NAT != 0;
    let Ok(backend) = found else { return Ok(if translates { programs::NAT } else { programs::CHOOSE }) };
    (journey.backend, journey.opened) = (backend, 0);
    notes::chosen(journey);
    Ok(if translates { programs::NAT } else { programs::DELIVER })
}

/// Where the payload of a UDP datagram stands in the frame.
struct Datagram {
    at: usize,
    end: usize,
}

/// The living backend that the connection id names, or why there is none; notes the id's codepoint.
#[inline(always)]
fn find(packet: &Packet, datagram: &Datagram, service: u32, rotation: &mut u32) -> Result<u32, Routed> {
    let id = connection_id(packet, datagram)?;
    *rotation = u32::from(quic::rotation(id.first));
    let config = maps::quic_config(service, *rotation).ok_or(Routed::Unroutable)?;
    let length = config.block_length();
    if id.rest + length > id.end {
        return Err(Routed::Malformed);
    }
    let mut block = [0; 3];
    packet.load(id.rest, &mut block, length).ok_or(Routed::Malformed)?;
    let server = config.server_id(block.map(u64::from_be));
    let key = ServerIdKey { service, rotation: *rotation, id: server };
    let backend = maps::server(&key).ok_or(Routed::UnknownId)?;
    let is_alive = Tables::open().is_some_and(|tables| tables.is_alive(backend));
    if is_alive { Ok(backend) } else { Err(Routed::DeadBackend) }
}

/// A destination connection id.
struct ConnectionId {
    /// Its first byte.
    first: u8,
    /// Where the others stand.
    rest: usize,
    /// Where it ends; a short header does not say, so that it may end before.
    end: usize,
}

#[inline(always)]
fn connection_id(packet: &Packet, datagram: &Datagram) -> Result<ConnectionId, Routed> {
    let &Datagram { at, end } = datagram;
    let header: &QuicShort = packet.view(at).ok_or(Routed::Malformed)?;
    if at + size_of::<QuicShort>() > end {
        return Err(Routed::Malformed);
    }
    if quic::is_long(header.first) {
        return long_connection_id(packet, datagram);
    }
    Ok(ConnectionId { first: header.id, rest: at + size_of::<QuicShort>(), end })
}

#[inline(always)]
fn long_connection_id(packet: &Packet, datagram: &Datagram) -> Result<ConnectionId, Routed> {
    let &Datagram { at, end } = datagram;
    let header: &QuicLong = packet.view(at).ok_or(Routed::Malformed)?;
    if at + size_of::<QuicLong>() > end {
        return Err(Routed::Malformed);
    }
    if quic::is_client_chosen(header.first, u32::from_be(header.version)) {
        return Err(Routed::Initial);
    }
    let rest = at + size_of::<QuicLong>();
    let last = rest + usize::from(header.length) - 1;
    if header.length == 0 || last > end {
        return Err(Routed::Malformed);
    }
    Ok(ConnectionId { first: header.id, rest, end: last })
}
