//! ICMP as the balancer speaks it: telling a sender that its packets are too long.
//!
//! Packets are arrays of 32-bit words as they stand in memory, from the IP header on.

use crate::{checksum, flow::Ticks};

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// Hops of what the balancer sends itself.
pub const HOPS: u8 = 64;

/// The types of a family's echo messages.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// Of a request.
    pub request: u8,
    /// Of the reply.
    pub reply: u8,
}

/// ICMP's (RFC 792).
pub const ECHO4: Echo = Echo { request: 8, reply: 0 };
/// ICMPv6's (RFC 4443 §4).
pub const ECHO6: Echo = Echo { request: 128, reply: 129 };

/// Words of an IPv4 packet that the error quotes: the header and 64 bits (RFC 792).
pub const QUOTED4: usize = 7;
/// Words of an IPv6 packet that the error quotes: the header and 20 bytes, enough for a TCP header.
pub const QUOTED6: usize = 15;
/// Words of an IPv6 packet that a refusal quotes: the header and 64 bits, as short as a datagram may be.
pub const SHORT6: usize = 12;
/// Words of the whole IPv6 refusal.
pub const REFUSAL6: usize = 10 + 2 + SHORT6;
/// Words of the whole IPv4 error.
pub const ERROR4: usize = 5 + 2 + QUOTED4;
/// Words of the whole IPv6 error.
pub const ERROR6: usize = 10 + 2 + QUOTED6;

/// Whether an ICMP type is an error about a packet: unreachable (fragmentation needed among it), time exceeded,
/// parameter problem (RFC 792).
#[inline(always)]
#[must_use]
pub const fn is_error4(kind: u8) -> bool {
    matches!(kind, 3 | 11 | 12)
}

/// Whether an ICMPv6 type is an error about a packet: unreachable, packet too big, time exceeded, parameter problem
/// (RFC 4443 §3).
#[inline(always)]
#[must_use]
pub const fn is_error6(kind: u8) -> bool {
    matches!(kind, 1..=4)
}

/// "Fragmentation needed" (RFC 792, RFC 1191 §4) about a packet whose header has no options, from whom it was for.
#[inline(always)]
#[must_use]
pub fn fragmentation_needed(quoted: &[u32; QUOTED4], mtu: u16) -> [u32; ERROR4] {
    unreachable4(quoted, 4, mtu)
}

/// The code of "destination unreachable" (RFC 792, RFC 1812 §5.2.7.1): nothing has the port, or there is a rule.
pub const PORT4: u8 = 3;
/// As before.
pub const PROHIBITED4: u8 = 13;
/// The code of ICMPv6's "destination unreachable" (RFC 4443 §3.1).
pub const PORT6: u8 = 4;
/// As before.
pub const PROHIBITED6: u8 = 1;

/// "Destination unreachable" about a packet whose header has no options, from whom it was for; `mtu` is 0 but for one code.
#[inline(always)]
#[must_use]
pub fn unreachable4(quoted: &[u32; QUOTED4], code: u8, mtu: u16) -> [u32; ERROR4] {
    let [mtu_high, mtu_low] = mtu.to_be_bytes();
    error4(quoted, [3, code], u32::from_ne_bytes([0, 0, mtu_high, mtu_low]), OWN)
}

/// What an error's own IP header says beside addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hops: u8,
}

/// Of errors that begin here.
const OWN: Outer = Outer { traffic_class: 0, hops: HOPS };

/// An ICMP error of a type and a code, with what stands behind its checksum, about a packet whose header has no options,
/// from whom that was for.
#[inline(always)]
#[must_use]
pub fn error4(quoted: &[u32; QUOTED4], [kind, code]: [u8; 2], next: u32, outer: Outer) -> [u32; ERROR4] {
    const LENGTH: u16 = 56;
    const { assert!(LENGTH as usize == 4 * ERROR4) };
    let [length_high, length_low] = LENGTH.to_be_bytes();
    let [q0, q1, q2, source, destination, q5, q6] = *quoted;
    let first = u32::from_ne_bytes([0x45, outer.traffic_class, length_high, length_low]);
    let hops = |sum: [u8; 2]| u32::from_ne_bytes([outer.hops, ICMP, sum[0], sum[1]]);
    let kind = |sum: [u8; 2]| u32::from_ne_bytes([kind, code, sum[0], sum[1]]);
    let header = checksum::add_words(0, &[first, 0, hops([0; 2]), destination, source]);
    let body = checksum::add_words(checksum::add_words(0, &[kind([0; 2]), next]), quoted);
    let [header, body] = [header, body].map(|sum| checksum::finish(sum).to_ne_bytes());
    [first, 0, hops(header), destination, source, kind(body), next, q0, q1, q2, source, destination, q5, q6]
}

/// "Packet too big" (RFC 4443 §3.2) about a packet, from whom it was for.
#[inline(always)]
#[must_use]
pub fn packet_too_big(quoted: &[u32; QUOTED6], mtu: u16) -> [u32; ERROR6] {
    error6(quoted, [2, 0], u32::from(mtu).to_be(), OWN)
}

/// "Destination unreachable" (RFC 4443 §3.1) about a packet, from whom it was for.
#[inline(always)]
#[must_use]
pub fn unreachable6(quoted: &[u32; SHORT6], code: u8) -> [u32; REFUSAL6] {
    error6(quoted, [1, code], 0, OWN)
}

/// An ICMPv6 error of a type and a code, with what stands behind its checksum, about a packet, from whom that was for.
#[inline(always)]
#[must_use]
pub fn error6<const QUOTED: usize, const ERROR: usize>(
    quoted: &[u32; QUOTED],
    [kind, code]: [u8; 2],
    next: u32,
    outer: Outer,
) -> [u32; ERROR] {
    const { assert!(ERROR == 10 + 2 + QUOTED && QUOTED >= 10 && QUOTED < 60) };
    #[expect(clippy::cast_possible_truncation, reason = "no more than 248")]
    let payload = const { 4 * (2 + QUOTED) as u16 };
    let [high, low] = payload.to_be_bytes();
    let kind = |sum: [u8; 2]| u32::from_ne_bytes([kind, code, sum[0], sum[1]]);
    let mut error = [0; ERROR];
    let class = outer.traffic_class;
    error[0] = u32::from_ne_bytes([0x60 | class >> 4, class << 4, 0, 0]);
    error[1] = u32::from_ne_bytes([high, low, ICMPV6, outer.hops]);
    error[2..6].copy_from_slice(&quoted[6..10]);
    error[6..10].copy_from_slice(&quoted[2..6]);
    error[11] = next;
    error[12..].copy_from_slice(quoted);
    // The pseudo-header (RFC 8200 §8.1): both addresses, length, next header.
    let pseudo = [u32::from(payload).to_be(), u32::from(ICMPV6).to_be(), kind([0; 2]), next];
    let sum = checksum::add_words(checksum::add_words(0, &pseudo), &error[2..10]);
    error[10] = kind(checksum::finish(checksum::add_words(sum, quoted)).to_ne_bytes());
    error
}

/// Whether a host may have this address, in the byte order of the wire, and so may be answered (RFC 1122 §3.2.1.3).
#[inline(always)]
#[must_use]
pub const fn is_host4(address: u32) -> bool {
    let [first, ..] = address.to_ne_bytes();
    !matches!(first, 0 | 127 | 224..)
}

/// As [`is_host4`]; an address in `::/64` is unspecified, loopback or stands for an IPv4 address (RFC 4291 §2.4).
#[inline(always)]
#[must_use]
pub const fn is_host6([first, _]: [u64; 2]) -> bool {
    first != 0 && first.to_ne_bytes()[0] != 0xff
}

/// The first four bytes of the answer to an echo request, of which this is `asked`: type, code, checksum. The checksum
/// is updated (RFC 1624); of its two zeroes the one is written that is right even if all of the message is zero.
#[inline(always)]
#[must_use]
pub const fn echo_reply(asked: u32, reply: u8) -> u32 {
    let [kind, code, first, second] = asked.to_ne_bytes();
    let [old, new] = [u16::from_ne_bytes([kind, code]), u16::from_ne_bytes([reply, code])];
    let sum = checksum::update(u16::from_ne_bytes([first, second]), old, new);
    let [first, second] = (if sum == 0 { 0xffff } else { sum }).to_ne_bytes();
    u32::from_ne_bytes([reply, code, first, second])
}

/// How many errors, and how many answers to echo requests, a CPU sends in a tick at most (RFC 4443 §2.4 f demands a
/// limit).
pub const ANSWERS_PER_TICK: u32 = 1000;

/// Takes one of a tick's answers; `spent` is the state, tick and count. `None` when there is none left.
#[inline(always)]
#[must_use]
pub const fn take(spent: u64, now: Ticks) -> Option<u64> {
    let fresh = (now as u64) << 32;
    if spent >> 32 != now as u64 {
        return Some(fresh | 1);
    }
    if spent & 0xffff_ffff >= ANSWERS_PER_TICK as u64 { None } else { Some(spent + 1) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4, icmpv6};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    proptest! {
        #[test]
        fn fragmentation_needed_is_a_valid_answer(mut quoted: [u32; QUOTED4], mtu: u16) {
            quoted[0] = u32::from_ne_bytes([0x45, 0, 5, 220]);
            let sent = bytes(&fragmentation_needed(&quoted, mtu));
            let packet = SlicedPacket::from_ip(&sent).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
            let header = ip.header().to_header();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!(&header.source[..], &bytes(&quoted)[16..20]);
            prop_assert_eq!(&header.destination[..], &bytes(&quoted)[12..16]);
            let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { panic!("no ICMP") };
            let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            prop_assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(needed));
            prop_assert_eq!(icmp.payload(), &bytes(&quoted)[..]);
            let whole = etherparse::Icmpv4Header::with_checksum(icmp.icmp_type(), icmp.payload());
            prop_assert_eq!(icmp.checksum(), whole.checksum);
        }

        #[test]
        fn packet_too_big_is_a_valid_answer(quoted: [u32; QUOTED6], mtu: u16) {
            let sent = bytes(&packet_too_big(&quoted, mtu));
            let packet = SlicedPacket::from_ip(&sent).unwrap();
            let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
            prop_assert_eq!(&ip.header().source()[..], &bytes(&quoted)[24..40]);
            prop_assert_eq!(&ip.header().destination()[..], &bytes(&quoted)[8..24]);
            let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("no ICMPv6") };
            prop_assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: u32::from(mtu) });
            prop_assert_eq!(icmp.payload(), &bytes(&quoted)[..]);
            prop_assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        }
    }

    proptest! {
        #[test]
        fn refusals_are_valid_answers(mut quoted: [u32; QUOTED4], short: [u32; SHORT6]) {
            quoted[0] = u32::from_ne_bytes([0x45, 0, 0, 28]);
            let sent = bytes(&unreachable4(&quoted, PORT4, 0));
            let packet = SlicedPacket::from_ip(&sent).unwrap();
            let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { panic!("no ICMP") };
            let port = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
            prop_assert_eq!((icmp.icmp_type(), icmp.payload()), (port.clone(), &bytes(&quoted)[..]));
            prop_assert_eq!(icmp.checksum(), etherparse::Icmpv4Header::with_checksum(port, icmp.payload()).checksum);
            let sent = bytes(&unreachable6(&short, PORT6));
            let packet = SlicedPacket::from_ip(&sent).unwrap();
            let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
            let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("no ICMPv6") };
            let port = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
            prop_assert_eq!((icmp.icmp_type(), icmp.payload()), (port, &bytes(&short)[..]));
            prop_assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        }
    }

    #[test]
    fn errors_are_limited_per_tick() {
        let mut spent = 0;
        let sent =
            (0..2 * ANSWERS_PER_TICK).filter(|_| take(spent, 7).map(|left| spent = left).is_some()).count();
        assert_eq!(u32::try_from(sent), Ok(ANSWERS_PER_TICK));
        assert!(take(spent, 8).is_some());
    }

    #[test]
    fn an_echo_of_zeroes_is_answered_with_a_checksum_that_receivers_accept() {
        let [kind, code, first, second] = echo_reply(u32::from_ne_bytes([8, 0, 0xf7, 0xff]), 0).to_ne_bytes();
        assert_eq!((kind, code, [first, second]), (0, 0, [0xff; 2]));
    }

    proptest! {
        #[test]
        fn an_echo_reply_has_the_checksum_of_its_bytes(words in prop::array::uniform3(1u16..)) {
            let sum = |kind: u8| {
                let first = u16::from_ne_bytes([kind, 0]);
                checksum::finish(words.iter().map(|word| u32::from(*word)).sum::<u32>() + u32::from(first))
            };
            let [first, second] = sum(8).to_ne_bytes();
            let reply = echo_reply(u32::from_ne_bytes([8, 0, first, second]), 0).to_ne_bytes();
            let right = if sum(0) == 0 { 0xffff } else { sum(0) };
            prop_assert_eq!(&reply[..2], &[0, 0]);
            prop_assert_eq!(u16::from_ne_bytes([reply[2], reply[3]]), right);
        }
    }

    #[test]
    fn groups_loopback_and_nobody_are_no_hosts() {
        let is_host = |address: &str| match address.parse().unwrap() {
            core::net::IpAddr::V4(address) => is_host4(u32::from_ne_bytes(address.octets())),
            core::net::IpAddr::V6(address) => is_host6(crate::abi::halves(address.octets())),
        };
        for address in ["192.0.2.1", "10.0.0.1", "223.1.1.1", "2001:db8::1", "fe80::1", "fd00::1"] {
            assert!(is_host(address), "{address}");
        }
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"] {
            assert!(!is_host(address), "{address}");
        }
    }

    #[test]
    fn only_errors_are_errors() {
        assert!(!is_error4(0) && !is_error4(8) && is_error4(icmpv4::TYPE_DEST_UNREACH));
        assert!(
            !is_error6(icmpv6::TYPE_ECHO_REQUEST)
                && !is_error6(135)
                && is_error6(icmpv6::TYPE_PACKET_TOO_BIG)
        );
    }
}
