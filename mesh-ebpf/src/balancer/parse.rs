//! From bytes to a flow: IPv4 and IPv6 with whatever stands before TCP and UDP, and ICMP errors about them.

use crate::{client::Client, extensions, icmp, maps};
use mesh_common::{
    abi::{ServiceKey, protocol},
    encap::Inner,
    flow::Signs,
    fragment::FragmentRecord,
    outcome::Outcome,
};
use mesh_ebpf::{
    header::{Ethernet, Ipv4, Ipv6, Ports, Tcp, Udp},
    packet::Packet,
    verifier::forget,
};

/// Where the IP header begins.
pub(crate) const IP: usize = Ethernet::LENGTH;

/// Where TTL, protocol and checksum stand in an IPv4 header.
pub(crate) const TTL: usize = IP + 8;

/// Where the hop limit stands in an IPv6 header.
pub(crate) const HOP_LIMIT: usize = IP + 7;

/// More than all offsets behind headers.
pub(crate) const BEYOND: usize = 0x1000;

/// What the rest of the way needs to know about a packet.
pub(crate) struct Flow<C> {
    /// Whom the packet is for.
    pub(crate) service: ServiceKey,
    /// Whom it comes from.
    pub(crate) client: C,
    /// What it shows of the flow.
    pub(crate) signs: Signs,
    /// Bytes from the IP header on, as the header says.
    pub(crate) length: u16,
    /// Bytes from the IP header on that the headers take; a whole packet has no fewer.
    pub(crate) headers: u16,
    /// Bytes of the IP header, options and extension headers included.
    pub(crate) ip_headers: u16,
    /// Of an ICMP error, bytes from the IP header to what the packet that it quotes carries; else 0.
    pub(crate) quoted: u16,
    /// TOS or traffic class.
    pub(crate) traffic_class: u8,
}

/// Which part of its packet a frame carries; a fragment with its packet's identification, as it stands on the wire.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    // verifier: no enum, so that its kind can be forgotten.
    kind: usize,
    id: u32,
    edge: usize,
}

impl Part {
    const WHOLE: usize = 0;
    const FIRST: usize = 1;
    const LATER: usize = 2;

    /// All of it.
    #[inline(always)]
    pub(crate) const fn whole() -> Self {
        Self { kind: Self::WHOLE, id: 0, edge: 0 }
    }

    /// The first fragment, which has the transport header (RFC 8200 §4.5; RFC 7112), and so many bytes of its packet.
    #[inline(always)]
    pub(crate) const fn first(id: u32, length: u16) -> Self {
        Self { kind: Self::FIRST, id, edge: length as usize }
    }

    /// Another fragment, which begins behind so many units of 8 bytes of its packet.
    #[inline(always)]
    pub(crate) const fn later(id: u32, units: u16) -> Self {
        Self { kind: Self::LATER, id, edge: units as usize * 8 }
    }

    #[inline(always)]
    pub(crate) const fn is_whole(self) -> bool {
        self.kind == Self::WHOLE
    }

    #[inline(always)]
    pub(crate) const fn is_first(self) -> bool {
        self.kind == Self::FIRST
    }

    #[inline(always)]
    pub(crate) const fn is_later(self) -> bool {
        self.kind == Self::LATER
    }

    /// Where a first fragment ends and any other begins: bytes of the packet that is in fragments.
    #[inline(always)]
    pub(crate) const fn edge(self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "13 bits of 8 bytes, or a packet's length")]
        let edge = self.edge as u16;
        edge
    }

    /// The identification, if this is a fragment.
    #[inline(always)]
    pub(crate) const fn id(self) -> u32 {
        self.id
    }
}

/// An IP header with its options or extension headers; addresses are in the byte order of the wire.
pub(crate) struct Ip<A> {
    pub(crate) source: A,
    pub(crate) destination: A,
    /// Bytes from the IP header on, as the header says.
    pub(crate) length: u16,
    /// TOS or traffic class.
    pub(crate) traffic_class: u8,
    /// The protocol of what follows.
    pub(crate) number: u8,
    /// Where that begins.
    pub(crate) at: usize,
    pub(crate) part: Part,
}

impl<C: Client> Flow<C> {
    /// The packet as an outer IP header sees it.
    #[inline(always)]
    pub(crate) const fn inner(&self) -> Inner {
        Inner { length: self.length, traffic_class: self.traffic_class, protocol: C::INNER_PROTOCOL }
    }
}

impl<A> Ip<A> {
    /// Lets the verifier forget by which way through the headers the packet came.
    #[inline(always)]
    pub(crate) fn settle(&mut self, packet: &Packet) {
        let unknown = packet.linear_length();
        self.at = forget(self.at, unknown) % BEYOND;
        self.part.kind = forget(self.part.kind, unknown);
        self.part.edge = forget(self.part.edge, unknown);
    }
}

/// Bytes from the IP header to an offset behind it.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "headers end within the first 4096 bytes")]
pub(crate) const fn behind_ip(at: usize) -> u16 {
    (at - IP) as u16
}

/// What a transport header says.
pub(crate) struct Transport {
    pub(crate) ports: Ports,
    pub(crate) signs: Signs,
    /// Where the header ends.
    pub(crate) end: usize,
}

/// The IPv4 header (RFC 791) at an offset.
#[inline(always)]
pub(crate) fn ipv4(packet: &Packet, at: usize) -> Result<Ip<u32>, Outcome> {
    const MORE: u16 = 0x2000_u16.to_be();
    let header: &Ipv4 = packet.view(at).ok_or(Outcome::Truncated)?;
    if !matches!(header.version_length, 0x45..=0x4f) {
        return Err(Outcome::Truncated);
    }
    let id = header.id as u32;
    let (length, bytes) = (u16::from_be(header.length), u16::from(header.version_length & 0xf) * 4);
    let part = if header.is_later_fragment() {
        Part::later(id, u16::from_be(header.fragment) & 0x1fff)
    } else if header.fragment & MORE != 0 {
        Part::first(id, length.wrapping_sub(bytes))
    } else {
        Part::whole()
    };
    Ok(Ip {
        source: header.source,
        destination: header.destination,
        length,
        traffic_class: header.traffic_class,
        number: header.protocol,
        at: at + usize::from(bytes),
        part,
    })
}

/// The IPv6 header (RFC 8200) at an offset, and the extension headers behind it.
#[inline(always)]
pub(crate) fn ipv6(packet: &Packet, at: usize) -> Result<Ip<[u64; 2]>, Outcome> {
    let header: &Ipv6 = packet.view(at).ok_or(Outcome::Truncated)?;
    if header.version() != 6 {
        return Err(Outcome::Truncated);
    }
    let (source, destination) = (header.source, header.destination);
    // A length beyond 16 bits saturates; no way has room for it.
    let (length, traffic_class) = (u16::from_be(header.length).saturating_add(40), header.traffic_class());
    let chain = extensions::walk(packet, at + Ipv6::LENGTH, header.next, at + usize::from(length))?;
    Ok(Ip {
        source,
        destination,
        length,
        traffic_class,
        number: chain.number,
        at: chain.at,
        part: chain.part,
    })
}

/// The flow of a packet that has its transport header.
#[inline(always)]
pub(crate) fn flow<C: Client>(packet: &Packet, ip: &Ip<C::Address>) -> Result<Flow<C>, Outcome> {
    if ip.number == C::ICMP {
        return icmp::about(packet, ip);
    }
    let Transport { ports, signs, end } = transport(packet, ip.at, ip.number)?;
    Ok(Flow {
        service: C::key(ip.destination, ports.destination, ip.number),
        client: C::new(ip.source, ports.source),
        signs,
        length: ip.length,
        headers: behind_ip(end),
        ip_headers: behind_ip(ip.at),
        quoted: 0,
        traffic_class: ip.traffic_class,
    })
}

/// The flow of a later fragment, of whose packet the first had this record.
#[inline(always)]
pub(crate) fn later_fragment<C: Client>(ip: &Ip<C::Address>, first: &FragmentRecord) -> Flow<C> {
    Flow {
        service: C::key(ip.destination, first.port, first.protocol),
        client: C::new(ip.source, first.source_port),
        signs: Signs::RELATED,
        length: ip.length,
        headers: behind_ip(ip.at),
        ip_headers: behind_ip(ip.at),
        quoted: 0,
        traffic_class: ip.traffic_class,
    }
}

#[inline(always)]
fn transport(packet: &Packet, offset: usize, number: u8) -> Result<Transport, Outcome> {
    match number {
        protocol::TCP => tcp(packet, offset),
        protocol::UDP => udp(packet, offset),
        // Without ports, it can only be for a service of any protocol.
        _ if maps::any_wide() => Ok(Transport { ports: Ports::NONE, signs: Signs::DATAGRAM, end: offset }),
        _ => Err(Outcome::OtherProtocol),
    }
}

#[inline(always)]
pub(crate) fn tcp(packet: &Packet, offset: usize) -> Result<Transport, Outcome> {
    let header: &Tcp = packet.view(offset).ok_or(Outcome::Truncated)?;
    let end = offset + usize::from(header.length());
    Ok(Transport { ports: header.ports, signs: Signs::tcp(header.flags), end })
}

#[inline(always)]
pub(crate) fn udp(packet: &Packet, offset: usize) -> Result<Transport, Outcome> {
    let header: &Udp = packet.view(offset).ok_or(Outcome::Truncated)?;
    Ok(Transport { ports: header.ports, signs: Signs::DATAGRAM, end: offset + size_of::<Udp>() })
}
