//! Connections whose clients came back with cookies: what the backend numbers, and what the client was told that it does,
//! are as far from each other ever after as they are when the backend answers.

use crate::{connections, cookies, maps, nat::tuple, options, translate::at};
use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use mesh_common::{
    abi::{Journey, programs},
    connection::{Reply, Splice, sign},
    cookie,
    flow::{Segment as Kind, Signs},
    handshake::{SHIFT, Segment, flags, rescaled},
    outcome::Outcome,
    translate::{Change, Sum},
};
use mesh_ebpf::{header::Tcp, packet::Packet};

/// Where fields stand in a TCP header.
const NUMBER: usize = 4;
const ACKNOWLEDGED: usize = 8;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;

/// Changes the numbers of a segment, or of the one that an ICMP error quotes, for who gets it.
#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> Result<u32, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let packet = Packet::new(context);
    if journey.is_reply == 0 { for_backend(packet, journey) } else { for_client(packet, journey) }?;
    Ok(programs::TRANSLATE)
}

/// What a client acknowledges.
#[inline(always)]
fn for_backend(packet: Packet, journey: &mut Journey) -> Result<(), Outcome> {
    let known = connections::connection(&tuple(journey)).ok_or(Outcome::NotConnected)?;
    journey.number = known.get().splice.difference;
    if journey.signs == Signs::RELATED {
        return Ok(());
    }
    let mut packet = packet;
    if journey.signs.is_ack() {
        change(&mut packet, at(journey), ACKNOWLEDGED, journey.number.wrapping_neg())
            .ok_or(Outcome::Truncated)?;
    }
    if journey.headers > journey.ip_headers + 20 && selective(packet.raw()) != DONE {
        return Err(Outcome::Truncated);
    }
    Ok(())
}

/// What a backend numbers.
#[inline(always)]
fn for_client(packet: Packet, journey: &mut Journey) -> Result<(), Outcome> {
    let reply = connections::reply(&tuple(journey)).ok_or(Outcome::NotConnected)?;
    match journey.signs.segment() {
        // What it quotes is numbered by the client.
        Kind::Related => return Ok(()),
        Kind::Established if journey.signs.flags() & flags::SYN != 0 => return begin(packet, journey, reply),
        Kind::Opening | Kind::Closing | Kind::Established | Kind::Datagram => {}
    }
    let mut packet = packet;
    let at = at(journey);
    if reply.signs & sign::SPLICED != 0 {
        let Splice { difference, theirs, ours, .. } = reply.splice;
        change(&mut packet, at, NUMBER, difference).ok_or(Outcome::Truncated)?;
        return rescale(&mut packet, at, theirs, ours).ok_or(Outcome::Truncated);
    }
    if !journey.signs.is_rst() {
        return Err(Outcome::NotConnected);
    }
    // A refusal has no number of its own: the client takes the next one only (RFC 5961 §3.2).
    let next = reply.splice.difference.wrapping_add(1);
    let now: u32 = packet.read(at + NUMBER).ok_or(Outcome::Truncated)?;
    change(&mut packet, at, NUMBER, next.wrapping_sub(u32::from_be(now))).ok_or(Outcome::Truncated)
}

/// Tells the client that its backend is there, which has the connection begin.
///
/// One packet becomes one packet, and two have to hear of it: the client that its window is open, the backend that its SYN
/// is acknowledged. So the client is sent a byte that it has: who gets one answers at once (RFC 9293 §3.10.7.4), and that
/// answer is what the backend waits for.
#[inline(always)]
fn begin(packet: Packet, journey: &mut Journey, reply: &mut Reply) -> Result<(), Outcome> {
    let at = at(journey);
    let tcp: &Tcp = packet.view(at).ok_or(Outcome::Truncated)?;
    let [theirs, acknowledged] = { tcp.numbers }.map(u32::from_be);
    let window = tcp.rest[0];
    let is_known = reply.signs & sign::SPLICED != 0;
    let number =
        if is_known { theirs.wrapping_add(reply.splice.difference) } else { reply.splice.difference };
    let promised = if cookie::options(number).shift.is_some() { SHIFT } else { 0 };
    let answered = cookies::offered(&packet, journey);
    let splice = Splice {
        difference: number.wrapping_sub(theirs),
        theirs: answered.shift.unwrap_or(0),
        ours: promised,
        reserved: 0,
    };
    let known = connections::connection(&reply.to.turned()).ok_or(Outcome::NotConnected)?;
    if !is_known {
        reply.splice = splice;
        reply.signs |= sign::SPLICED;
        known.splice(splice);
    }
    let segment = Segment {
        // Before translation it is the backend's.
        number,
        acknowledged,
        flags: flags::ACK,
        // That of a SYN is not shifted (RFC 7323 §2.2).
        window: u16::from_be(rescaled(window, 0, promised)),
    };
    let ends = tuple(journey);
    let hops = cookies::hops(&packet, journey).ok_or(Outcome::Truncated)?;
    let mut packet = cookies::become_segment(packet, journey, &ends, hops, segment.with_byte(&ends), 1)?;
    packet.write(crate::parse::IP + cookies::length(journey), 0_u8).ok_or(Outcome::NoHeadroom)?;
    journey.signs = Signs::tcp(flags::ACK);
    Ok(())
}

/// Adds to a number of a TCP header.
#[inline(always)]
fn change(packet: &mut Packet, at: usize, field: usize, by: u32) -> Option<()> {
    let old: u32 = packet.read(at + field)?;
    let new = u32::from_be(old).wrapping_add(by).to_be();
    packet.write(at + field, new)?;
    update(packet, at, Sum::default().plus(old.into()), Sum::default().plus(new.into()))
}

#[inline(always)]
fn rescale(packet: &mut Packet, at: usize, from: u8, to: u8) -> Option<()> {
    let old: u16 = packet.read(at + WINDOW)?;
    let new = rescaled(old, from, to);
    packet.write(at + WINDOW, new)?;
    update(packet, at, Sum::default().plus(old.into()), Sum::default().plus(new.into()))
}

#[inline(always)]
fn update(packet: &mut Packet, at: usize, old: Sum, new: Sum) -> Option<()> {
    let checksum: u16 = packet.read(at + CHECKSUM)?;
    packet.write(at + CHECKSUM, Change::between(old, new).update(checksum))
}

const DONE: u32 = 0;

/// Changes the selective acknowledgements of the noted segment.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(unsafe_code, reason = "a name for the kernel")]
extern "C" fn selective(context: *mut xdp_md) -> u32 {
    const TRUNCATED: u32 = 1;
    let Some(journey) = maps::journey() else { return TRUNCATED };
    // SAFETY: the context is the program's.
    let mut packet = unsafe { Packet::from_raw(context) };
    let mut place = options::first(journey);
    for _ in 0..options::MOST {
        let Some(option) = options::at(&packet, journey, place) else { break };
        if option.kind == options::SACK {
            let changed = blocks(&mut packet, journey, place, option.length);
            return changed.map_or(TRUNCATED, |()| DONE);
        }
        place = options::next(&packet, place, option);
    }
    DONE
}

/// Changes the edges of up to four blocks (RFC 2018 §3).
#[inline(always)]
fn blocks(packet: &mut Packet, journey: &Journey, place: usize, length: u8) -> Option<()> {
    const MOST: usize = 8;
    let at = at(journey);
    let count = usize::from(length.saturating_sub(2)) / 4;
    let (mut old, mut new) = (Sum::default(), Sum::default());
    for nth in 0..MOST {
        if nth >= count {
            break;
        }
        let edge = place + 2 + nth * 4;
        let before: u32 = packet.read(edge)?;
        let after = u32::from_be(before).wrapping_sub(journey.number).to_be();
        packet.write(edge, after)?;
        // At an odd place its bytes are the others of their words (RFC 1071 §2B).
        let is_odd = edge & 1 != 0;
        let word = |word: u32| u64::from(if is_odd { word.swap_bytes() } else { word });
        (old, new) = (old.plus(word(before)), new.plus(word(after)));
    }
    update(packet, at, old, new)
}
