//! The client's side of a flow, in one of the families.

use crate::{
    icmp, maps,
    parse::{self, HOP_LIMIT, IP, Ip, TTL},
    screen::{self, Flaw},
};
use mesh_common::{
    abi::{ServiceKey, halves, protocol, whole},
    checksum,
    encap::map_ipv4,
    hash,
    icmp::{
        ECHO4, ECHO6, Echo, HOPS, ICMP, ICMPV6, PORT4, PORT6, PROHIBITED4, PROHIBITED6, is_error4, is_error6,
        is_host4, is_host6,
    },
    outcome::Outcome,
    reset::{Segment, reset4, reset6},
    screen::{is_spoofed4, is_spoofed6},
    table,
};
use mesh_ebpf::{
    header::{Ipv4, Ipv6},
    packet::Packet,
};

/// A client of either family, and what else differs between the families.
pub(crate) trait Client: Copy {
    /// An address in the byte order of the wire.
    type Address: Copy;
    /// Bytes of the IP header alone.
    const HEADER: usize;
    /// The protocol number of the family's ICMP.
    const ICMP: u8;
    /// The family's echo messages.
    const ECHO: Echo;
    /// The IP header at an offset, with its options or extension headers.
    fn parse(packet: &Packet, at: usize) -> Result<Ip<Self::Address>, Outcome>;
    /// Whether an ICMP type is an error about a packet.
    fn is_error(kind: u8) -> bool;
    /// Whether a host may have the address, and so may be answered.
    fn is_host(address: Self::Address) -> bool;
    /// Whether nobody can have sent a packet from this address to that one.
    fn is_spoofed(source: Self::Address, destination: Self::Address) -> bool;
    /// What is wrong with the IP header by itself, whose options or extension headers end at an offset.
    fn screen(packet: &Packet, end: usize) -> Flaw;
    /// An address as the maps have it: IPv4 as an IPv4-mapped address.
    fn mapped(address: Self::Address) -> [u64; 2];
    /// A service's key; the port in the byte order of the wire.
    fn key(vip: Self::Address, port: u16, protocol: u8) -> ServiceKey;
    /// The client; its port in the byte order of the wire.
    fn new(address: Self::Address, port: u16) -> Self;
    /// Sends the IP packet back: swaps the addresses and gives it a new life. Neither changes the checksum of what it
    /// carries.
    fn turn(packet: &mut Packet, ip: &Ip<Self::Address>) -> Option<()>;
    /// The IP protocol number that an outer header gives to a packet of this family.
    const INNER_PROTOCOL: u8;
    /// The flow's hash under the seed.
    fn hash(&self) -> u64;
    /// Answers a packet that is longer than `mtu` by saying so, if it may not be fragmented or `always`; `None` if that
    /// cannot be said.
    fn tell(packet: Packet, mtu: u16, always: bool) -> Option<()>;
    /// Refuses a TCP segment; `None` if that cannot be said.
    fn reset(packet: Packet, ip: &Ip<Self::Address>, segment: Segment) -> Option<()>;
    /// Refuses another packet: nothing has its port, or it is not allowed.
    fn unreachable(packet: Packet, has_port: bool) -> Option<()>;
    /// The client's address; IPv4 as an IPv4-mapped address.
    fn address(&self) -> [u8; 16];
    /// The client's port, in the byte order of the wire.
    fn port(&self) -> u16;

    /// The client of a flow that has no ports.
    fn without_port(self) -> Self;

    /// The client as the flow table names it.
    #[inline(always)]
    fn named(&self, key: u64, service: u32) -> table::Client {
        table::Client {
            key,
            service,
            port: self.port().to_ne_bytes(),
            reserved: [0; 2],
            address: self.address(),
        }
    }
}

/// An IPv4 client, in the byte order of the wire.
#[derive(Clone, Copy)]
pub(crate) struct Client4 {
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// An IPv6 client, in the byte order of the wire.
#[derive(Clone, Copy)]
pub(crate) struct Client6 {
    pub(crate) address: [u64; 2],
    pub(crate) port: u16,
}

impl Client for Client4 {
    type Address = u32;
    const HEADER: usize = Ipv4::LENGTH;
    const ICMP: u8 = ICMP;
    const ECHO: Echo = ECHO4;

    #[inline(always)]
    fn parse(packet: &Packet, at: usize) -> Result<Ip<u32>, Outcome> {
        parse::ipv4(packet, at)
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        is_error4(kind)
    }

    #[inline(always)]
    fn is_host(address: u32) -> bool {
        is_host4(address)
    }

    #[inline(always)]
    fn is_spoofed(source: u32, destination: u32) -> bool {
        is_spoofed4(source, destination)
    }

    #[inline(always)]
    fn screen(packet: &Packet, end: usize) -> Flaw {
        screen::ipv4(packet, end)
    }

    #[inline(always)]
    fn mapped(address: u32) -> [u64; 2] {
        halves(map_ipv4(address.to_ne_bytes()))
    }

    #[inline(always)]
    fn key(vip: u32, port: u16, protocol: u8) -> ServiceKey {
        ServiceKey::v4(vip.to_ne_bytes(), port.to_ne_bytes(), protocol)
    }

    #[inline(always)]
    fn new(address: u32, port: u16) -> Self {
        Self { address, port }
    }

    #[inline(always)]
    fn turn(packet: &mut Packet, ip: &Ip<u32>) -> Option<()> {
        let word = packet.read(TTL)?;
        packet.write(TTL, checksum::with_ttl(word, HOPS))?;
        packet.write(IP + 12, [ip.destination, ip.source])
    }

    const INNER_PROTOCOL: u8 = protocol::IPIP;

    #[inline(always)]
    fn hash(&self) -> u64 {
        hash::flow4(maps::seed(), self.address.to_ne_bytes(), self.port.to_ne_bytes())
    }

    #[inline(always)]
    fn tell(packet: Packet, mtu: u16, always: bool) -> Option<()> {
        icmp::tell_ipv4(packet, mtu, always)
    }

    #[inline(always)]
    fn reset(packet: Packet, ip: &Ip<u32>, segment: Segment) -> Option<()> {
        icmp::answer(packet, reset4(ip.source, ip.destination, segment.refused()?))
    }

    #[inline(always)]
    fn unreachable(packet: Packet, has_port: bool) -> Option<()> {
        icmp::refuse_ipv4(packet, if has_port { PORT4 } else { PROHIBITED4 })
    }

    #[inline(always)]
    fn address(&self) -> [u8; 16] {
        map_ipv4(self.address.to_ne_bytes())
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        self.port
    }

    #[inline(always)]
    fn without_port(self) -> Self {
        Self { port: 0, ..self }
    }
}

impl Client for Client6 {
    type Address = [u64; 2];
    const HEADER: usize = Ipv6::LENGTH;
    const ICMP: u8 = ICMPV6;
    const ECHO: Echo = ECHO6;

    #[inline(always)]
    fn parse(packet: &Packet, at: usize) -> Result<Ip<[u64; 2]>, Outcome> {
        parse::ipv6(packet, at)
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        is_error6(kind)
    }

    #[inline(always)]
    fn is_host(address: [u64; 2]) -> bool {
        is_host6(address)
    }

    #[inline(always)]
    fn is_spoofed(source: [u64; 2], destination: [u64; 2]) -> bool {
        is_spoofed6(source, destination)
    }

    /// It has no checksum, and its extension headers were walked through.
    #[inline(always)]
    fn screen(_packet: &Packet, _end: usize) -> Flaw {
        Flaw::NONE
    }

    #[inline(always)]
    fn mapped(address: [u64; 2]) -> [u64; 2] {
        address
    }

    #[inline(always)]
    fn key(vip: [u64; 2], port: u16, protocol: u8) -> ServiceKey {
        ServiceKey::v6(whole(vip), port.to_ne_bytes(), protocol)
    }

    #[inline(always)]
    fn new(address: [u64; 2], port: u16) -> Self {
        Self { address, port }
    }

    #[inline(always)]
    fn turn(packet: &mut Packet, ip: &Ip<[u64; 2]>) -> Option<()> {
        let ([a, b], [c, d]) = (ip.destination, ip.source);
        packet.write(HOP_LIMIT, HOPS)?;
        packet.write(IP + 8, [a, b, c, d])
    }

    const INNER_PROTOCOL: u8 = protocol::IPV6;

    #[inline(always)]
    fn hash(&self) -> u64 {
        hash::flow6(maps::seed(), whole(self.address), self.port.to_ne_bytes())
    }

    #[inline(always)]
    fn tell(packet: Packet, mtu: u16, _always: bool) -> Option<()> {
        icmp::tell_ipv6(packet, mtu)
    }

    #[inline(always)]
    fn reset(packet: Packet, ip: &Ip<[u64; 2]>, segment: Segment) -> Option<()> {
        icmp::answer(packet, reset6(words(ip.source), words(ip.destination), segment.refused()?))
    }

    #[inline(always)]
    fn unreachable(packet: Packet, has_port: bool) -> Option<()> {
        icmp::refuse_ipv6(packet, if has_port { PORT6 } else { PROHIBITED6 })
    }

    #[inline(always)]
    fn address(&self) -> [u8; 16] {
        whole(self.address)
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        self.port
    }

    #[inline(always)]
    fn without_port(self) -> Self {
        Self { port: 0, ..self }
    }
}

/// An IPv6 address in words of half the size.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "words are cut on purpose")]
const fn words([first, second]: [u64; 2]) -> [u32; 4] {
    [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32]
}
