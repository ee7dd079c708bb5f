//! SYN cookies: while too many connections begin, a SYN is answered here, and a connection is made for who acknowledges
//! the answer.
//!
//! ```text
//! client ── SYN ──────────▶ here
//!        ◀─ SYN, cookie ─── here          nothing is remembered; the window is closed
//!        ── ACK, cookie + 1 ▶ here ── SYN ─▶ backend
//!        ◀─ ACK, window ──── here ◀─ SYN ──  backend     by `splice`
//! ```

use crate::{
    connections, floods, maps,
    nat::tuple,
    options,
    parse::{BEYOND, HOP_LIMIT, IP, TTL},
    tables::Tables,
    translate::{KIND, at},
};
use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use mesh_common::{
    abi::{Journey, programs, protocol},
    cookie,
    encap::{LENGTH_IPV4, LENGTH_IPV6},
    flow::{Segment as Kind, Signs},
    handshake::{OPENING, Options, SHIFT, Segment, flags, rescaled},
    icmp::HOPS,
    outcome::Outcome,
    translate::header::{self, Header},
    tuple::Tuple,
};
use mesh_ebpf::{
    header::{IPV4, IPV6, Macs, Tcp},
    packet::{self, Packet},
    verifier::{forget, opaque},
};

/// Bytes of a TCP header without options.
const HEADER: u16 = 20;

/// Answers a SYN, or says who goes on with a client that answered ours.
#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> Result<u32, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let packet = Packet::new(context);
    if journey.first != 0 || journey.quoted != 0 {
        return Err(Outcome::NotConnected);
    }
    match journey.signs.segment() {
        Kind::Opening => Err(answer(packet, journey)?),
        Kind::Established => accept(packet, journey),
        Kind::Closing | Kind::Datagram | Kind::Related => Err(Outcome::NotConnected),
    }
}

/// Answers a SYN by a cookie.
#[inline(always)]
fn answer(packet: Packet, journey: &mut Journey) -> Result<Outcome, Outcome> {
    let at = at(journey);
    let tcp: &Tcp = packet.view(at).ok_or(Outcome::Truncated)?;
    let [begins, _] = { tcp.numbers }.map(u32::from_be);
    let (ends, now) = (tuple(journey), maps::now());
    let options = offered(&packet, journey);
    let number = cookie::bake(connections::cookie_key(), &ends, begins, options, now);
    let segment = Segment {
        number,
        acknowledged: begins.wrapping_add(1),
        flags: flags::SYN | flags::ACK,
        // Nothing can be sent to a backend that is not there.
        window: 0,
    };
    let ours = Options {
        size: size(journey),
        shift: if options.shift.is_some() { Some(SHIFT) } else { None },
        sack: options.sack,
    };
    let ends = ends.turned();
    let mut packet = become_segment(packet, journey, &ends, HOPS, segment.with_options(&ends, ours), 0)?;
    let macs = packet.view::<Macs>(0).ok_or(Outcome::NoHeadroom)?.swapped();
    packet.write(0, macs).ok_or(Outcome::NoHeadroom)?;
    floods::note_answered(journey.service.id, now);
    Ok(Outcome::SynCookie)
}

/// Makes of what acknowledges a cookie the SYN that it is the answer to.
#[inline(always)]
fn accept(packet: Packet, journey: &mut Journey) -> Result<u32, Outcome> {
    let at = at(journey);
    let tcp: &Tcp = packet.view(at).ok_or(Outcome::Truncated)?;
    let [next, acknowledged] = { tcp.numbers }.map(u32::from_be);
    let window = tcp.rest[0];
    let (ends, key, now) = (tuple(journey), connections::cookie_key(), maps::now());
    let number = acknowledged.wrapping_sub(1);
    let begins = |begins| cookie::is_good(key, &ends, begins, number, now);
    // Who asks whether a closed window has opened sends a number once more that is acknowledged (RFC 9293 §3.8.6.1).
    let [first, again] = [next.wrapping_sub(1), next];
    let begins = if begins(first) {
        first
    } else if begins(again) {
        again
    } else {
        return Err(Outcome::NotConnected);
    };
    let options = cookie::options(number);
    let window = u16::from_be(rescaled(window, options.shift.unwrap_or(0), 0));
    let segment = Segment { number: begins, acknowledged: 0, flags: flags::SYN, window };
    let hops = hops(&packet, journey).ok_or(Outcome::Truncated)?;
    become_segment(packet, journey, &ends, hops, segment.with_options(&ends, options), 0)?;
    journey.signs = Signs::tcp(flags::SYN);
    if journey.proxied != 0 {
        return Ok(programs::TRANSLATE);
    }
    (journey.proxied, journey.number) = (1, number);
    Ok(if journey.backend == 0 { programs::CHOOSE } else { programs::CONNECT })
}

/// The maximum segment size that the way to who gets the packet allows: a guess, as it is chosen later.
#[inline(always)]
fn size(journey: &Journey) -> u16 {
    /// What IPv6 takes without asking (RFC 9293 §3.7.1).
    const LEAST: u16 = 1220;
    let room = || {
        let tables = Tables::open()?;
        let slot = tables.slot(&journey.service, journey.slot_hash)?;
        let backend = tables.backend(slot.current())?;
        let room = backend.room.checked_sub(LENGTH_IPV6 + HEADER)?;
        (room >= LEAST).then_some(room)
    };
    room().unwrap_or(LEAST)
}

/// Makes the packet this segment, between these ends, and `more` bytes of payload, which are left as they are.
#[inline(always)]
pub(crate) fn become_segment<const N: usize>(
    packet: Packet,
    journey: &mut Journey,
    ends: &Tuple,
    hops: u8,
    words: [u32; N],
    more: u16,
) -> Result<Packet, Outcome> {
    const {
        assert!(N <= OPENING);
    }
    #[expect(clippy::cast_possible_truncation, reason = "no more than eight")]
    let payload = N as u16 * 4 + more;
    let header = Header { traffic_class: journey.traffic_class, hops, protocol: protocol::TCP, payload };
    let packet = if journey.family == protocol::IPIP {
        journey.ip_headers = LENGTH_IPV4;
        whole(packet, IPV4, header::ipv4(header, UNFRAGMENTABLE, ends), words, more)
    } else {
        journey.ip_headers = LENGTH_IPV6;
        whole(packet, IPV6, header::ipv6(header, ends), words, more)
    };
    journey.headers = journey.ip_headers + payload - more;
    journey.length = journey.ip_headers + payload;
    packet.ok_or(Outcome::NoHeadroom)
}

/// The second word of an IPv4 header that forbids fragments.
const UNFRAGMENTABLE: u32 = u32::from_ne_bytes([0, 0, 0x40, 0]);

#[inline(always)]
fn whole<H: packet::Header, const N: usize>(
    packet: Packet,
    kind: u16,
    ip: H,
    words: [u32; N],
    more: u16,
) -> Option<Packet> {
    let end = IP + size_of::<H>() + N * 4;
    let macs: Macs = packet.read(0)?;
    let mut packet = packet.resize(end + usize::from(more))?;
    packet.write(0, macs)?;
    packet.write(KIND, kind)?;
    packet.write(IP, ip)?;
    packet.write(IP + size_of::<H>(), words)?;
    Some(packet)
}

/// Bytes of all headers, from the IP header on.
#[inline(always)]
pub(crate) fn length(journey: &Journey) -> usize {
    opaque(usize::from(journey.headers)) % BEYOND
}

/// How far the packet may still go.
#[inline(always)]
pub(crate) fn hops(packet: &Packet, journey: &Journey) -> Option<u8> {
    packet.read(if journey.family == protocol::IPIP { TTL } else { HOP_LIMIT })
}

/// What a SYN offers.
#[inline(always)]
pub(crate) fn offered(packet: &Packet, journey: &Journey) -> Options {
    let said = tcp_options(packet.raw());
    let usual = if journey.family == protocol::IPIP { 536 } else { 1220 };
    #[expect(clippy::cast_possible_truncation, reason = "packed so")]
    let (size, shift) = (said as u16, (said >> 16) as u8 & 15);
    Options {
        size: if size == 0 { usual } else { size },
        shift: if said & SHIFTED == 0 { None } else { Some(shift) },
        sack: said & SACK != 0,
    }
}

// What `tcp_options` says beside a segment size (16 bits) and a shift (4 bits).
const SHIFTED: u32 = 1 << 24;
const SACK: u32 = 1 << 25;

/// Looks through the options of the noted packet, a SYN.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(unsafe_code, reason = "a name for the kernel")]
extern "C" fn tcp_options(context: *mut xdp_md) -> u32 {
    let Some(journey) = maps::journey() else { return 0 };
    // SAFETY: the context is the program's.
    let packet = unsafe { Packet::from_raw(context) };
    let (mut said, mut place) = (0, options::first(journey));
    for _ in 0..options::MOST {
        let Some(option) = options::at(&packet, journey, place) else { break };
        said |= match (option.kind, option.length) {
            (options::SIZE, 4) => packet.read(place + 2).map_or(0, |size| u16::from_be(size).into()),
            (options::SHIFT, 3) => {
                let shift: u8 = packet.read(place + 2).unwrap_or(0);
                SHIFTED | u32::from(shift.min(15)) << 16
            }
            (options::SACK_PERMITTED, 2) => SACK,
            _ => 0,
        };
        // verifier: what was said does not matter to it.
        #[expect(clippy::cast_possible_truncation, reason = "it was one of as many bits")]
        let same = forget(said as usize, packet.linear_length()) as u32;
        said = same;
        place = options::next(&packet, place, option);
    }
    said
}
