//! The plain packet's way: a straight line for nearly every packet of a service.
//!
//! A packet is plain when it is untagged, IPv4 without options or fragments or IPv6 without extension headers, TCP or UDP,
//! for a service that stands in the exact table and asks for nothing special, and when it can be sent; source, flags, lengths
//! and the IPv4 checksum are such as honest senders send. `None` means that
//! it is not, or that something about it is odd: then nothing was counted and the packet is as it came, and the whole
//! way ([`crate::read`]) says what becomes of it. So this way knows no outcome but "sent", and "denied". Tunnels in UDP are left to the
//! last step of the whole way ([`crate::deliver`]): their headers would cost the others registers.

use crate::{
    choose::{Choice, owned, owner, tracked},
    client::{Client, Client4, Client6},
    connections, forward, guard, journey, maps,
    parse::{self, Flow, IP, Transport, behind_ip},
    screen,
    tables::Tables,
};
use mesh_common::{
    abi::{Journey, ServiceKey, flag, programs, protocol, whole},
    checksum,
    outcome::Outcome,
    screen::{is_sensible, is_spoofed4, is_spoofed6},
};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6, Ipv4, Ipv4Words, Ipv6, Tcp, Udp},
    packet::Packet,
};

/// How far a plain packet came.
pub(crate) enum End {
    /// It was sent to its backend.
    Sent(Outcome),
    /// Its service does not serve its client.
    Denied,
    /// Another program goes on with it, for which it is noted: it gets wrapped in more than an outer IP header, or is
    /// translated.
    Next(u32),
}

/// Sends a plain packet to its backend.
#[inline(always)]
pub(crate) fn run(packet: Packet) -> Option<End> {
    let tables = Tables::open()?;
    let ethernet: &Ethernet = packet.view(0)?;
    match ethernet.kind {
        IPV4 => {
            let flow = ipv4(&packet)?;
            steer(packet, tables, &flow)
        }
        IPV6 => {
            let flow = ipv6(&packet)?;
            steer(packet, tables, &flow)
        }
        _ => None,
    }
}

#[inline(always)]
fn steer<C: Client>(packet: Packet, tables: Tables, flow: &Flow<C>) -> Option<End> {
    if flow.length < flow.headers || IP + usize::from(flow.length) > packet.linear_length() {
        return None;
    }
    let Some(service) = tables.service(flow.service) else {
        // What is not for a service may be what a backend answers with.
        let is_odd = !connections::any() || maps::any_wide();
        return if is_odd { None } else { note(flow).map(|_journey| End::Next(programs::REPLY)) };
    };
    if service.flags & !(flag::GUARDED | flag::NAT) != 0 {
        return None;
    }
    if guard::denies(service, &flow.client) {
        return Some(End::Denied);
    }
    let hash = flow.client.hash();
    if service.flags & flag::NAT != 0 {
        let journey = note(flow)?;
        journey.service = *service;
        (journey.hash, journey.slot_hash) = (hash, hash);
        journey.rejects = u8::from(service.reject != 0);
        return Some(End::Next(programs::NAT));
    }
    let slot = tables.slot(service, hash)?;
    let Some(owner) = owner(tables, flow, service.id, slot, hash) else {
        // A line of its own to the end: what is needed here only would else be saved and restored on both.
        let choice = tracked(tables, flow, service.id, slot, hash, true);
        return send(packet, tables, flow, &choice, hash);
    };
    send(packet, tables, flow, &owned(flow, owner), hash)
}

/// Notes a packet for a program that goes on with it.
#[inline(always)]
fn note<C: Client>(flow: &Flow<C>) -> Option<&'static mut Journey> {
    let journey = maps::journey()?;
    journey::note_plain(journey, flow);
    Some(journey)
}

#[inline(always)]
fn send<C: Client>(
    packet: Packet,
    tables: Tables,
    flow: &Flow<C>,
    choice: &Choice,
    hash: u64,
) -> Option<End> {
    let backend = tables.backend(choice.backend)?;
    if flow.length > backend.room {
        return None;
    }
    if forward::is_tunnel_in_udp(backend) {
        journey::note_chosen(maps::journey()?, flow, choice, hash);
        return Some(End::Next(programs::DELIVER));
    }
    let sent = forward::to::<false>(packet, flow.inner(), flow.service, backend, hash).ok()?;
    maps::count_sent(choice.backend, sent, flow.length, choice.opened);
    Some(End::Sent(sent))
}

#[inline(always)]
fn ipv4(packet: &Packet) -> Option<Flow<Client4>> {
    const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();
    let header: &Ipv4 = packet.view(IP)?;
    if header.version_length != 0x45 || header.fragment & OFFSET_OR_MORE != 0 {
        return None;
    }
    if is_spoofed4(header.source, header.destination) || !checksum::is_right(packet.view::<Ipv4Words>(IP)?.0)
    {
        return None;
    }
    let length = u16::from_be(header.length);
    let Transport { ports, signs, end } = transport(packet, IP + Ipv4::LENGTH, header.protocol, length)?;
    Some(Flow {
        service: ServiceKey::v4(
            header.destination.to_ne_bytes(),
            ports.destination.to_ne_bytes(),
            header.protocol,
        ),
        client: Client4 { address: header.source, port: ports.source },
        signs,
        length,
        headers: behind_ip(end),
        ip_headers: behind_ip(IP + Ipv4::LENGTH),
        quoted: 0,
        traffic_class: header.traffic_class,
    })
}

#[inline(always)]
fn ipv6(packet: &Packet) -> Option<Flow<Client6>> {
    let header: &Ipv6 = packet.view(IP)?;
    if header.version() != 6 || is_spoofed6(header.source, header.destination) {
        return None;
    }
    // A length beyond 16 bits saturates; no frame holds it.
    let length = u16::from_be(header.length).saturating_add(40);
    let Transport { ports, signs, end } = transport(packet, IP + Ipv6::LENGTH, header.next, length)?;
    Some(Flow {
        service: ServiceKey::v6(whole(header.destination), ports.destination.to_ne_bytes(), header.next),
        client: Client6 { address: header.source, port: ports.source },
        signs,
        length,
        headers: behind_ip(end),
        ip_headers: behind_ip(IP + Ipv6::LENGTH),
        quoted: 0,
        traffic_class: header.traffic_class(),
    })
}

/// The transport header of an IP packet of so many bytes, if nothing is odd about it.
#[inline(always)]
fn transport(packet: &Packet, at: usize, number: u8, length: u16) -> Option<Transport> {
    match number {
        protocol::TCP => {
            let header: &Tcp = packet.view(at)?;
            let is_plain = is_sensible(header.flags) && header.length() >= 20;
            parse::tcp(packet, at).ok().filter(|_| is_plain)
        }
        protocol::UDP => {
            let header: &Udp = packet.view(at)?;
            let is_plain = screen::holds(u16::from_be(header.length), length.wrapping_sub(behind_ip(at)));
            parse::udp(packet, at).ok().filter(|_| is_plain)
        }
        _ => None,
    }
}
