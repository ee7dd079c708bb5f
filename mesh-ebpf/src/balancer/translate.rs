//! Translation: a packet gets other addresses and ports, and with them, where these are the other IP version's, another IP
//! header. What is decided is decided in [`mesh_common::translate`].
//!
//! TCP and UDP within a version go a straight line. What is rarer is left to functions that the verifier walks through by
//! themselves, once, and which cost the line no registers (kernel 5.6).
#![expect(unsafe_code, reason = "the argument of such functions is a raw pointer")]

use crate::{
    maps,
    parse::{BEYOND, HOP_LIMIT, IP, TTL},
};
use aya_ebpf::bindings::xdp_md;
use mesh_common::{
    abi::{Journey, halves, protocol},
    checksum,
    encap::{LENGTH_IPV4, LENGTH_IPV6, map_ipv4},
    flow::Signs,
    icmp::Outer,
    outcome::Outcome,
    translate::{
        Change, Sum,
        error::{self, Message, Quoted, packet4, packet6},
        header::{self, FRAGMENT, FRAGMENT_LENGTH, Header, Piece, unmapped},
    },
    tuple::Tuple,
};
use mesh_ebpf::{
    header::{Extension, IPV4, IPV6, Icmp, Ipv4, Ipv6, Option4},
    packet::{self, Packet},
    verifier::{forget, opaque},
};

/// Where the Ethernet type stands.
pub(crate) const KIND: usize = IP - 2;

/// Where the checksum stands in a TCP header, and in one of UDP.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Makes the packet one from and to the ends that are noted: its own, if it is TCP or UDP, whole or a fragment; those of
/// its IP header, and of the packet that it quotes in the other direction, if it is an ICMP error. The Ethernet addresses
/// are left for who sends it. A packet that is not translated is as it was, unless it is dropped.
#[inline(always)]
pub(crate) fn run(packet: Packet, journey: &Journey) -> Result<Packet, Outcome> {
    if journey.quoted != 0 {
        return apart(packet, translate_error);
    }
    if is_other_version(journey, &journey.to) {
        return apart(packet, translate_across);
    }
    within(packet, journey, &journey.to)
}

/// Whether the packet is a whole one of TCP or UDP, and keeps its version: then [`within`] does all that [`run`] does.
#[inline(always)]
pub(crate) fn is_plain(journey: &Journey, to: &Tuple) -> bool {
    journey.signs != Signs::RELATED && journey.first == 0 && !is_other_version(journey, to)
}

#[inline(always)]
const fn is_other_version(journey: &Journey, to: &Tuple) -> bool {
    (journey.family == protocol::IPIP) != to.is_ipv4()
}

/// Bytes from the IP header on that the packet will have.
#[inline(always)]
pub(crate) fn length(journey: &Journey, to: &Tuple) -> u16 {
    let is_fragment = journey.first != 0 || is_later(journey);
    let new = match (journey.quoted != 0, to.is_ipv4()) {
        (true, true) => return error::LENGTH4,
        (true, false) => return error::LENGTH6,
        _ if !is_other_version(journey, to) => return journey.length,
        (false, true) => LENGTH_IPV4,
        (false, false) if is_fragment => LENGTH_IPV6 + FRAGMENT_LENGTH,
        (false, false) => LENGTH_IPV6,
    };
    (journey.length - journey.ip_headers).saturating_add(new)
}

/// As [`run`], of TCP and UDP that keeps its version.
#[inline(always)]
pub(crate) fn within(packet: Packet, journey: &Journey, to: &Tuple) -> Result<Packet, Outcome> {
    if journey.family == protocol::IPIP { within4(packet, journey, to) } else { within6(packet, journey, to) }
}

/// Whether the packet is a fragment without ports.
#[inline(always)]
fn is_later(journey: &Journey) -> bool {
    journey.signs == Signs::RELATED
}

/// Where what the IP header carries begins.
#[inline(always)]
pub(crate) fn at(journey: &Journey) -> usize {
    // verifier: an offset within a packet is bounded before it is added. Each is compared with the packet's end for itself,
    // since the compiler does not know that they are one.
    IP + opaque(usize::from(journey.ip_headers)) % BEYOND
}

#[inline(always)]
fn within4(mut packet: Packet, journey: &Journey, to: &Tuple) -> Result<Packet, Outcome> {
    let ip: &Ipv4 = packet.view(IP).ok_or(Outcome::Truncated)?;
    let (hops, old) = (hop(ip.ttl)?, Sum::of(ip.source, ip.destination));
    let life: u32 = packet.read(TTL).ok_or(Outcome::Truncated)?;
    let [source, destination] = [to.source, to.destination].map(unmapped);
    let new = Sum::of(source, destination);
    carried(&mut packet, journey, to, old, new)?;
    let life = with_checksum(checksum::with_ttl(life, hops), Change::between(old, new));
    packet.write(TTL, [life, source, destination]).ok_or(Outcome::Truncated)?;
    Ok(packet)
}

/// The word of an IPv4 header that ends with its checksum, after a change of others.
#[inline(always)]
const fn with_checksum(word: u32, change: Change) -> u32 {
    let [ttl, protocol, first, second] = word.to_ne_bytes();
    let [first, second] = change.update(u16::from_ne_bytes([first, second])).to_ne_bytes();
    u32::from_ne_bytes([ttl, protocol, first, second])
}

#[inline(always)]
fn within6(mut packet: Packet, journey: &Journey, to: &Tuple) -> Result<Packet, Outcome> {
    let ip: &Ipv6 = packet.view(IP).ok_or(Outcome::Truncated)?;
    let (hops, old) = (hop(ip.hops)?, Sum::of_addresses(ip.source, ip.destination));
    let ([a, b], [c, d]) = (to.source, to.destination);
    carried(&mut packet, journey, to, old, Sum::of_addresses(to.source, to.destination))?;
    packet.write(HOP_LIMIT, hops).ok_or(Outcome::Truncated)?;
    packet.write(HOP_LIMIT + 1, [a, b, c, d]).ok_or(Outcome::Truncated)?;
    Ok(packet)
}

/// One hop less.
#[inline(always)]
const fn hop(hops: u8) -> Result<u8, Outcome> {
    if hops <= 1 { Err(Outcome::TtlExpired) } else { Ok(hops - 1) }
}

/// Gives TCP or UDP its ports, and the checksum that they and new addresses make.
#[inline(always)]
fn carried(packet: &mut Packet, journey: &Journey, to: &Tuple, old: Sum, new: Sum) -> Result<(), Outcome> {
    if is_later(journey) {
        return Ok(());
    }
    let at = at(journey);
    let ports: u32 = packet.read(at).ok_or(Outcome::Truncated)?;
    let change = Change::between(old.plus(ports.into()), new.plus(to.ports().into()));
    if to.protocol == protocol::TCP {
        update(packet, at + TCP_CHECKSUM, |checksum| change.update(checksum))?;
    } else {
        update(packet, at + UDP_CHECKSUM, |checksum| change.update_udp(checksum))?;
    }
    packet.write(at, to.ports()).ok_or(Outcome::Truncated)
}

#[inline(always)]
fn update(packet: &mut Packet, at: usize, new: impl FnOnce(u16) -> u16) -> Result<(), Outcome> {
    let checksum: u16 = packet.read(at).ok_or(Outcome::Truncated)?;
    packet.write(at, new(checksum)).ok_or(Outcome::Truncated)
}

/// A function of its own, which answers [`DONE`] or a [`refusal`].
type Apart = extern "C" fn(*mut xdp_md) -> u32;

const DONE: u32 = 0;

/// How a translation ends that comes to nothing, as functions of their own say it.
mod refusal {
    pub(super) const TRUNCATED: u32 = 1;
    pub(super) const EXPIRED: u32 = 2;
    pub(super) const UNTRANSLATABLE: u32 = 3;
    pub(super) const NO_HEADROOM: u32 = 4;
}

#[inline(always)]
fn apart(packet: Packet, function: Apart) -> Result<Packet, Outcome> {
    let context = packet.into_raw();
    match function(context) {
        // SAFETY: the context of the packet that was there.
        DONE => Ok(unsafe { Packet::from_raw(context) }),
        refusal::TRUNCATED => Err(Outcome::Truncated),
        refusal::EXPIRED => Err(Outcome::TtlExpired),
        refusal::UNTRANSLATABLE => Err(Outcome::Untranslatable),
        _ => Err(Outcome::NoHeadroom),
    }
}

#[inline(always)]
const fn answer(result: Result<(), Outcome>) -> u32 {
    match result {
        Ok(()) => DONE,
        Err(Outcome::Truncated) => refusal::TRUNCATED,
        Err(Outcome::TtlExpired) => refusal::EXPIRED,
        Err(Outcome::Untranslatable) => refusal::UNTRANSLATABLE,
        Err(_) => refusal::NO_HEADROOM,
    }
}

/// What such a function begins with.
#[inline(always)]
fn begin(context: *mut xdp_md) -> Option<(Packet, &'static Journey)> {
    // SAFETY: the context is the program's.
    Some((unsafe { Packet::from_raw(context) }, maps::journey()?))
}

/// Translates TCP and UDP between versions.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn translate_across(context: *mut xdp_md) -> u32 {
    let Some((packet, journey)) = begin(context) else { return refusal::TRUNCATED };
    let to = &journey.to;
    answer(if to.is_ipv4() { to4(packet, journey, to) } else { to6(packet, journey, to) })
}

/// RFC 7915 §4.1.
#[inline(always)]
fn to6(mut packet: Packet, journey: &Journey, to: &Tuple) -> Result<(), Outcome> {
    const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();
    let ip: &Ipv4 = packet.view(IP).ok_or(Outcome::Truncated)?;
    let (hops, old) = (hop(ip.ttl)?, Sum::of(ip.source, ip.destination));
    let (id, fragment) = (ip.id, ip.fragment);
    let is_fragment = fragment & OFFSET_OR_MORE != 0;
    if journey.ip_headers > LENGTH_IPV4 {
        packet = apart(packet, translate_without_options)?;
    }
    let new = Sum::of_addresses(to.source, to.destination);
    if to.protocol == protocol::UDP && !is_later(journey) && has_no_checksum(&packet, journey)? {
        let whole = if is_fragment { None } else { whole_checksum(&mut packet, journey, to, new) };
        whole.ok_or(Outcome::Untranslatable)?;
    } else {
        carried(&mut packet, journey, to, old, new)?;
    }
    let payload = journey.length - journey.ip_headers;
    let header = Header { traffic_class: journey.traffic_class, hops, protocol: to.protocol, payload };
    if !is_fragment {
        return replace(packet, journey, IPV6, header::ipv6(header, to));
    }
    let [a, b, c, d, e] =
        header::ipv6(Header { protocol: FRAGMENT, payload: payload + FRAGMENT_LENGTH, ..header }, to);
    let piece = Piece::of4(id, fragment).header6(to.protocol);
    replace(packet, journey, IPV6, [a, b, c, d, e, piece])
}

/// Says whether the options of an IPv4 header can be left out.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn translate_without_options(context: *mut xdp_md) -> u32 {
    match begin(context) {
        Some((packet, journey)) if !is_routed(&packet, journey) => DONE,
        Some(_) => refusal::UNTRANSLATABLE,
        None => refusal::TRUNCATED,
    }
}

/// Most options of an IPv4 header, of one byte each.
const OPTIONS: usize = 40;

/// Whether an IPv4 packet is to go to somebody else from here, by a source route (RFC 791 §3.1) that options would be left
/// out with.
#[inline(always)]
fn is_routed(packet: &Packet, journey: &Journey) -> bool {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let first = IP + Ipv4::LENGTH;
    let (mut at, end) = (first, at(journey));
    for _ in 0..OPTIONS {
        if at >= end {
            break;
        }
        let Some(option) = packet.view::<Option4>(at) else { break };
        at += match (option.kind, option.length) {
            (NOTHING, _) => 1,
            (LOOSE | STRICT, length) => return option.pointer <= length,
            (END, _) | (_, 0 | 1) => break,
            (_, length) => length.into(),
        };
        // verifier: that the others were skipped so or so does not matter.
        at = forget(at, packet.linear_length()) % BEYOND;
    }
    false
}

/// RFC 7915 §5.1.
#[inline(always)]
fn to4(mut packet: Packet, journey: &Journey, to: &Tuple) -> Result<(), Outcome> {
    let ip: &Ipv6 = packet.view(IP).ok_or(Outcome::Truncated)?;
    let (hops, old) = (hop(ip.hops)?, Sum::of_addresses(ip.source, ip.destination));
    let payload = journey.length - journey.ip_headers;
    let second = if journey.first != 0 || is_later(journey) {
        piece(&packet, journey)?.word4()
    } else {
        header::whole4(payload, maps::random())
    };
    carried(&mut packet, journey, to, old, Sum::of_addresses(to.source, to.destination))?;
    let header = Header { traffic_class: journey.traffic_class, hops, protocol: to.protocol, payload };
    replace(packet, journey, IPV4, header::ipv4(header, second, to))
}

/// Which part a fragment is. Behind its header nothing may stand that would be left out: the offsets count it.
#[inline(always)]
fn piece(packet: &Packet, journey: &Journey) -> Result<Piece, Outcome> {
    const OFFSET_OR_MORE: u16 = 0xfff9_u16.to_be();
    let at = IP + usize::from(journey.ip_headers.wrapping_sub(FRAGMENT_LENGTH)) % BEYOND;
    let header: &Extension = packet.view(at).ok_or(Outcome::Truncated)?;
    let is_its_own = header.id == journey.fragment.id() && header.rest & OFFSET_OR_MORE != 0;
    if is_its_own { Ok(Piece::of6(header.id, header.rest)) } else { Err(Outcome::Untranslatable) }
}

/// Puts an IP header in the place of the one that is there, and of all that stands between it and what it carries.
#[inline(always)]
fn replace<H: packet::Header>(packet: Packet, journey: &Journey, kind: u16, ip: H) -> Result<(), Outcome> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "headers have 48 bytes at most"
    )]
    let moved = i32::from(journey.ip_headers) - size_of::<H>() as i32;
    let mut packet = packet.move_head(moved).ok_or(Outcome::NoHeadroom)?;
    packet.write(KIND, kind).ok_or(Outcome::NoHeadroom)?;
    packet.write(IP, ip).ok_or(Outcome::NoHeadroom)
}

#[inline(always)]
fn has_no_checksum(packet: &Packet, journey: &Journey) -> Result<bool, Outcome> {
    let at = at(journey) + UDP_CHECKSUM;
    packet.read::<u16>(at).map(|checksum| checksum == 0).ok_or(Outcome::Truncated)
}

/// Gives a UDP datagram that has no checksum its ports and one (RFC 7915 §4.5); `None`: it is too long to be summed, or not
/// as long as its headers say.
#[inline(always)]
fn whole_checksum(packet: &mut Packet, journey: &Journey, to: &Tuple, addresses: Sum) -> Option<()> {
    let at = at(journey);
    let length: u16 = packet.read(at + 4)?;
    let bytes = u16::from_be(length);
    if bytes < 8 || bytes > journey.length - journey.ip_headers {
        return None;
    }
    // verifier: what is written has its bounds checked, though what was read around it had.
    let at = opaque(at);
    packet.write(at, to.ports())?;
    let pseudo = u64::from(length) | u64::from(u16::from_ne_bytes([0, protocol::UDP])) << 32;
    let sum = sum(packet, at, bytes.into(), addresses.plus(pseudo))?;
    packet.write(at + UDP_CHECKSUM, sum.udp_checksum())
}

/// Bytes that are summed at once.
const STEP: usize = 64;

/// How often.
const STEPS: usize = 24;

/// A sum with so many bytes more; `None` where they are too many.
#[inline(always)]
fn sum(packet: &Packet, at: usize, length: usize, mut sum: Sum) -> Option<Sum> {
    // One word more than is loaded, as `load` wants it.
    let mut words = [0; STEP / 8 + 1];
    for step in 0..STEPS {
        let left = opaque(length.wrapping_sub(step * STEP));
        if left <= STEP {
            words = [0; STEP / 8 + 1];
            packet.load(at + step * STEP, &mut words, left)?;
            return Some(sum.plus_all(&words));
        }
        packet.load(at + step * STEP, &mut words, STEP)?;
        sum = sum.plus_all(&words);
    }
    None
}

/// Translates an ICMP error.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn translate_error(context: *mut xdp_md) -> u32 {
    let Some((packet, journey)) = begin(context) else { return refusal::TRUNCATED };
    let to = &journey.to;
    let result = match journey.family {
        protocol::IPIP => error_of4(packet, journey, to),
        _ => error_of6(packet, journey, to),
    };
    answer(result)
}

/// What an error says, and the first 64 bits of what the packet that it quotes carries.
#[inline(always)]
fn message(packet: &Packet, journey: &Journey) -> Option<(Message, [u32; 2])> {
    let at = at(journey);
    let &Icmp { kind, code, rest, .. } = packet.view(at)?;
    let [ports, number]: [u32; 2] = packet.read(IP + usize::from(journey.quoted) % BEYOND)?;
    let number = u32::from_be(number).wrapping_sub(journey.number).to_be();
    Some((Message { kind, code, rest }, [ports, number]))
}

/// Where the packet that an error quotes begins.
#[inline(always)]
fn quoted_at(journey: &Journey) -> usize {
    at(journey) + size_of::<Icmp>()
}

#[inline(always)]
const fn ends(source: [u64; 2], destination: [u64; 2], first: [u32; 2], protocol: u8) -> Tuple {
    let [ports, _] = first;
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let source_port = ports as u16;
    let destination_port = (ports >> 16) as u16;
    Tuple { source, destination, source_port, destination_port, protocol, reserved: [0; 3] }
}

#[inline(always)]
fn error_of4(packet: Packet, journey: &Journey, to: &Tuple) -> Result<(), Outcome> {
    let ip: &Ipv4 = packet.view(IP).ok_or(Outcome::Truncated)?;
    let outer = Outer { traffic_class: journey.traffic_class, hops: hop(ip.ttl)? };
    let (message, first) = message(&packet, journey).ok_or(Outcome::Truncated)?;
    let inner: &Ipv4 = packet.view(quoted_at(journey)).ok_or(Outcome::Truncated)?;
    let second = u32::from(inner.id) | u32::from(inner.fragment) << 16;
    let length = u16::from_be(inner.length);
    let header = Header {
        traffic_class: inner.traffic_class,
        hops: inner.ttl,
        protocol: to.protocol,
        payload: length.saturating_sub(u16::from(inner.version_length & 0xf) * 4),
    };
    let [source, destination] =
        [inner.source, inner.destination].map(|it| halves(map_ipv4(it.to_ne_bytes())));
    let quoted = Quoted { header, first, ends: ends(source, destination, first, to.protocol) };
    if to.is_ipv4() {
        return become_error(packet, IPV4, packet4(message.within4(), outer, &quoted.as4(second, to)));
    }
    let message = message.from4_to6(length).ok_or(Outcome::Untranslatable)?;
    become_error(packet, IPV6, packet6(message, outer, &quoted.as6(to)))
}

#[inline(always)]
fn error_of6(packet: Packet, journey: &Journey, to: &Tuple) -> Result<(), Outcome> {
    let ip: &Ipv6 = packet.view(IP).ok_or(Outcome::Truncated)?;
    let outer = Outer { traffic_class: journey.traffic_class, hops: hop(ip.hops)? };
    let (message, first) = message(&packet, journey).ok_or(Outcome::Truncated)?;
    let inner: &Ipv6 = packet.view(quoted_at(journey)).ok_or(Outcome::Truncated)?;
    // Extension headers of the quoted packet are left out.
    let extensions = journey.quoted.wrapping_sub(journey.ip_headers).wrapping_sub(8 + 40);
    let payload = u16::from_be(inner.length).saturating_sub(extensions);
    let header =
        Header { traffic_class: inner.traffic_class(), hops: inner.hops, protocol: to.protocol, payload };
    let quoted = Quoted { header, first, ends: ends(inner.source, inner.destination, first, to.protocol) };
    if !to.is_ipv4() {
        return become_error(packet, IPV6, packet6(message.within6(), outer, &quoted.as6(to)));
    }
    let message = message.from6_to4().ok_or(Outcome::Untranslatable)?;
    let second = header::whole4(payload, 0);
    become_error(packet, IPV4, packet4(message, outer, &quoted.as4(second, to)))
}

/// Makes the packet this error, which may be longer or shorter: room is made in front, and the rest cut off.
#[inline(always)]
fn become_error<E: packet::Header>(packet: Packet, kind: u16, error: E) -> Result<(), Outcome> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "errors have a hundred bytes"
    )]
    let room = size_of::<E>() as i32;
    let mut packet = packet.move_head(-room).ok_or(Outcome::NoHeadroom)?;
    packet.write(KIND, kind).ok_or(Outcome::NoHeadroom)?;
    packet.write(IP, error).ok_or(Outcome::NoHeadroom)?;
    packet.cut(IP + size_of::<E>()).map(drop).ok_or(Outcome::NoHeadroom)
}
