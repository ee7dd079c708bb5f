extern crate std;

use super::error::{Message, Quoted, packet4, packet6};
use super::header::{self, Header, Piece};
use super::{Change, Sum};
use crate::abi::{halves, protocol, whole};
use crate::encap::{is_mapped, map_ipv4, unmap_ipv4};
use crate::icmp::Outer;
use crate::tuple::Tuple;
use etherparse::{Icmpv6Slice, IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use proptest::prelude::*;
use std::vec::Vec;

fn bytes<T: Copy, const N: usize>(words: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    words.iter().flat_map(|word| to_bytes(*word)).collect()
}

/// A packet's ends, in the version that is wanted.
fn ends(is_ipv4: bool, number: u8) -> impl Strategy<Value = Tuple> {
    any::<([u8; 16], [u8; 16], u16, u16)>().prop_map(move |(source, destination, source_port, port)| {
        let address = |it: [u8; 16]| halves(if is_ipv4 { map_ipv4(unmap_ipv4(it)) } else { it });
        let reserved = [0; 3];
        let [source, destination] = [source, destination].map(address);
        Tuple { source, destination, source_port, destination_port: port, protocol: number, reserved }
    })
}

/// Both ends of a translation.
fn both(number: u8) -> impl Strategy<Value = (Tuple, Tuple)> {
    any::<(bool, bool)>().prop_flat_map(move |(from, to)| (ends(from, number), ends(to, number)))
}

fn octets(address: [u64; 2]) -> [u8; 16] {
    whole(address)
}

/// The checksum of a datagram between these ends, from scratch.
fn udp(ends: &Tuple, payload: &[u8]) -> u16 {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let [source_port, destination_port] = [ends.source_port, ends.destination_port].map(u16::from_be);
    let header = UdpHeader { source_port, destination_port, length, checksum: 0 };
    let [source, destination] = [ends.source, ends.destination].map(octets);
    let checksum = if is_mapped(destination) {
        header.calc_checksum_ipv4_raw(unmap_ipv4(source), unmap_ipv4(destination), payload)
    } else {
        header.calc_checksum_ipv6_raw(source, destination, payload)
    };
    checksum.unwrap().to_be()
}

/// The checksum of a segment between these ends, from scratch.
fn tcp(ends: &Tuple, payload: &[u8]) -> u16 {
    let [from, to] = [ends.source_port, ends.destination_port].map(u16::from_be);
    let header = TcpHeader::new(from, to, 0x0102_0304, 1000);
    let [source, destination] = [ends.source, ends.destination].map(octets);
    let checksum = if is_mapped(destination) {
        header.calc_checksum_ipv4_raw(unmap_ipv4(source), unmap_ipv4(destination), payload)
    } else {
        header.calc_checksum_ipv6_raw(source, destination, payload)
    };
    checksum.unwrap().to_be()
}

fn change(from: &Tuple, to: &Tuple) -> Change {
    Change::between(Sum::of_ends(from), Sum::of_ends(to))
}

proptest! {
    #[test]
    fn updates_equal_checksums_from_scratch(
        (from, to) in both(protocol::TCP),
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        prop_assert_eq!(change(&from, &to).update(tcp(&from, &payload)), tcp(&to, &payload));
        prop_assert_eq!(change(&from, &to).update_udp(udp(&from, &payload)), udp(&to, &payload));
        prop_assert_eq!(change(&from, &to).update_udp(0), 0);
        prop_assert_eq!(change(&from, &from).update(tcp(&from, &payload)), tcp(&from, &payload));
    }

    #[test]
    fn a_sum_of_ipv4_words_is_that_of_the_mapped_ends(from in ends(true, 6), to in ends(true, 6), field: u16) {
        let short = |ends: &Tuple| {
            let ports = u64::from(ends.source_port) | u64::from(ends.destination_port) << 32;
            Sum::of(header::unmapped(ends.source), header::unmapped(ends.destination)).plus(ports)
        };
        let updated = Change::between(short(&from), short(&to)).update(field);
        prop_assert_eq!(updated, change(&from, &to).update(field));
    }

    #[test]
    fn a_checksum_that_comes_out_as_none_is_written_as_its_other_zero(
        (from, to) in both(protocol::UDP),
        mut payload: [u8; 6],
    ) {
        payload[..2].fill(0);
        // With this word more the sum is all ones, and its complement none.
        let missing = udp(&to, &payload);
        prop_assume!(missing != 0xffff);
        payload[..2].copy_from_slice(&missing.to_ne_bytes());
        prop_assert_eq!(udp(&to, &payload), 0xffff);
        prop_assert_eq!(change(&from, &to).update_udp(udp(&from, &payload)), 0xffff);
    }

    #[test]
    fn a_datagram_is_summed_in_words(to in ends(false, protocol::UDP), payload: [u8; 32]) {
        let words: [u64; 4] = core::array::from_fn(|at| u64::from_ne_bytes(payload[at * 8..][..8].try_into().unwrap()));
        let length = u16::to_be(40);
        let sum = Sum::of_ends(&to)
            .plus(u64::from(length) | u64::from(u16::from_ne_bytes([0, protocol::UDP])) << 32)
            .plus(length.into());
        prop_assert_eq!(sum.plus_all(&words).udp_checksum(), udp(&to, &payload));
    }

    #[test]
    fn ipv4_headers_say_what_they_are_given(
        to in ends(true, 17), second: u32, traffic_class: u8, hops: u8, number: u8, payload in 0..=65_515_u16,
    ) {
        // The highest bit of the flags is reserved; etherparse does not keep it.
        let second = second & !u32::from_ne_bytes([0, 0, 0x80, 0]);
        let words = header::ipv4(Header { traffic_class, hops, protocol: number, payload }, second, &to);
        let written = bytes(&words, u32::to_ne_bytes);
        let (parsed, rest) = Ipv4Header::from_slice(&written).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(parsed.header_checksum, parsed.calc_header_checksum());
        prop_assert_eq!((parsed.total_len, parsed.time_to_live), (payload + 20, hops));
        prop_assert_eq!((written[1], parsed.protocol), (traffic_class, IpNumber(number)));
        prop_assert_eq!(written[4..8].to_vec(), second.to_ne_bytes());
        prop_assert_eq!(map_ipv4(parsed.source), octets(to.source));
        prop_assert_eq!(map_ipv4(parsed.destination), octets(to.destination));
    }

    #[test]
    fn ipv6_headers_say_what_they_are_given(
        to in ends(false, 17), traffic_class: u8, hops: u8, number: u8, payload: u16,
    ) {
        let words = header::ipv6(Header { traffic_class, hops, protocol: number, payload }, &to);
        let written = bytes(&words, u64::to_ne_bytes);
        let (parsed, rest) = Ipv6Header::from_slice(&written).unwrap();
        let expected = Ipv6Header {
            traffic_class,
            flow_label: etherparse::Ipv6FlowLabel::ZERO,
            payload_length: payload,
            next_header: IpNumber(number),
            hop_limit: hops,
            source: octets(to.source),
            destination: octets(to.destination),
        };
        prop_assert_eq!((parsed, rest.is_empty()), (expected, true));
    }

    #[test]
    fn fragments_are_the_same_parts_in_both_versions(id: u16, offset in 0..0x2000_u16, more: bool, number: u8) {
        let fragment = offset | u16::from(more) << 13;
        for dont_fragment in [0, 0x4000] {
            let piece = Piece::of4(id.to_be(), (fragment | dont_fragment).to_be());
            let written = piece.header6(number).to_ne_bytes();
            let (parsed, _) = etherparse::Ipv6FragmentHeader::from_slice(&written).unwrap();
            let offset = IpFragOffset::try_new(offset).unwrap();
            let expected =
                etherparse::Ipv6FragmentHeader::new(IpNumber(number), offset, more, id.into());
            prop_assert_eq!(parsed, expected);
            prop_assert_eq!(piece.word4().to_ne_bytes().to_vec(), [id.to_be_bytes(), fragment.to_be_bytes()].concat());
        }
        let piece = Piece::of6((0xabcd_0000 | u32::from(id)).to_be(), (offset << 3 | 6 | u16::from(more)).to_be());
        prop_assert_eq!(piece.word4().to_ne_bytes().to_vec(), [id.to_be_bytes(), fragment.to_be_bytes()].concat());
    }

    #[test]
    fn errors_quote_what_their_receivers_sent(
        (about, to) in prop_oneof![both(protocol::TCP), both(protocol::UDP)],
        payload in prop::collection::vec(any::<u8>(), 0..40),
        numbers: [u8; 4],
        outer: (u8, u8),
        kind: (u8, u8, u32),
    ) {
        let number = about.protocol;
        let length = u16::try_from(8 + payload.len()).unwrap();
        let second = |ends: &Tuple| {
            if number == protocol::UDP {
                let [a, b] = length.to_be_bytes();
                let [c, d] = udp(ends, &payload).to_ne_bytes();
                [a, b, c, d]
            } else {
                numbers
            }
        };
        let ports = |ends: &Tuple| u32::from(ends.source_port) | u32::from(ends.destination_port) << 16;
        let header = Header { traffic_class: numbers[0], hops: numbers[1], protocol: number, payload: length };
        let first = [ports(&about), u32::from_ne_bytes(second(&about))];
        let quoted = Quoted { header, first, ends: about };
        let (message, outer) = (
            Message { kind: kind.0, code: kind.1, rest: kind.2 },
            Outer { traffic_class: outer.0, hops: outer.1 },
        );
        let sent = to.turned();
        let transport = [ports(&sent).to_ne_bytes(), second(&sent)].concat();
        let said = [&[message.kind, message.code][..], &message.rest.to_ne_bytes()].concat();
        if to.is_ipv4() {
            let error = bytes(&packet4(message, outer, &quoted.as4(0, &to)), u32::to_ne_bytes);
            let (ip, icmp) = Ipv4Header::from_slice(&error).unwrap();
            prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            prop_assert_eq!((usize::from(ip.total_len), ip.protocol), (error.len(), IpNumber::ICMP));
            prop_assert_eq!((error[1], ip.time_to_live), (outer.traffic_class, outer.hops));
            prop_assert_eq!([ip.source, ip.destination].map(map_ipv4), [to.source, to.destination].map(octets));
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(icmp).ones_complement();
            prop_assert_eq!(sum, 0);
            prop_assert_eq!([&icmp[..2], &icmp[4..8]].concat(), said);
            let (quote, rest) = Ipv4Header::from_slice(&icmp[8..]).unwrap();
            prop_assert_eq!(quote.header_checksum, quote.calc_header_checksum());
            prop_assert_eq!([quote.source, quote.destination].map(map_ipv4), [sent.source, sent.destination].map(octets));
            prop_assert_eq!((quote.total_len, quote.time_to_live), (length + 20, header.hops));
            prop_assert_eq!(rest, &transport[..]);
        } else {
            let error = bytes(&packet6(message, outer, &quoted.as6(&to)), u32::to_ne_bytes);
            let (ip, icmp) = Ipv6Header::from_slice(&error).unwrap();
            prop_assert_eq!((usize::from(ip.payload_length) + 40, ip.next_header), (error.len(), IpNumber::IPV6_ICMP));
            prop_assert_eq!((ip.traffic_class, ip.hop_limit), (outer.traffic_class, outer.hops));
            prop_assert_eq!([ip.source, ip.destination], [to.source, to.destination].map(octets));
            prop_assert!(Icmpv6Slice::from_slice(icmp).unwrap().is_checksum_valid(ip.source, ip.destination));
            prop_assert_eq!([&icmp[..2], &icmp[4..8]].concat(), said);
            let (quote, rest) = Ipv6Header::from_slice(&icmp[8..]).unwrap();
            prop_assert_eq!([quote.source, quote.destination], [sent.source, sent.destination].map(octets));
            prop_assert_eq!((quote.payload_length, quote.hop_limit), (length, header.hops));
            prop_assert_eq!(rest, &transport[..]);
        }
    }
}

#[test]
fn short_packets_may_be_fragmented_and_long_ones_not() {
    let second = |payload| header::whole4(payload, 0x1234_5678).to_ne_bytes();
    assert_eq!(second(1240), [0x78, 0x56, 0, 0]);
    assert_eq!(second(1241), [0, 0, 0x40, 0]);
}

/// Type, code and the four bytes behind the checksum.
type Said = (u8, u8, [u8; 4]);

fn message((kind, code, rest): Said) -> Message {
    Message { kind, code, rest: u32::from_ne_bytes(rest) }
}

#[test]
fn every_error_of_ipv4_has_its_counterpart_or_none() {
    // RFC 7915 §4.2, and figure 3; lengths are of a quoted packet of 1500 bytes.
    let unreachable = [0, 0, 4, 4, 2, 0, 0, 0, 0, 1, 1, 0, 0, 1, 255, 1, 255];
    let is_code = |code: u8| unreachable.get(usize::from(code)).copied().unwrap_or(255);
    for code in (0..=255).filter(|code| !matches!(code, 2..=4)) {
        let expected = (is_code(code) != 255).then(|| message((1, is_code(code), [0; 4])));
        assert_eq!(message((3, code, [9; 4])).from4_to6(1500), expected, "3/{code}");
    }
    let to6 = |said| message(said).from4_to6(1500);
    let expect = |said| Some(message(said));
    assert_eq!(to6((3, 2, [0; 4])), expect((4, 1, [0, 0, 0, 6])));
    assert_eq!(to6((3, 3, [0; 4])), expect((1, 4, [0; 4])));
    for (mtu, told) in
        [(1400_u16, 1420_u32), (1260, 1280), (1261, 1281), (68, 1280), (9000, 9020), (65_535, 65_555)]
    {
        let [high, low] = mtu.to_be_bytes();
        assert_eq!(to6((3, 4, [9, 9, high, low])), expect((2, 0, told.to_be_bytes())), "{mtu}");
    }
    // RFC 1191 §7.1, for routers that name no length.
    for (length, told) in
        [(1500, 1512_u32), (1492, 1280), (9000, 8186), (2003, 2022), (100, 1280), (65_535, 32_020)]
    {
        assert_eq!(
            message((3, 4, [0; 4])).from4_to6(length),
            expect((2, 0, told.to_be_bytes())),
            "{length} bytes"
        );
    }
    for code in [0, 1] {
        assert_eq!(to6((11, code, [9; 4])), expect((3, code, [0; 4])));
    }
    let places = [
        (0, 0),
        (1, 1),
        (2, 4),
        (3, 4),
        (8, 7),
        (9, 6),
        (12, 8),
        (13, 8),
        (14, 8),
        (15, 8),
        (16, 24),
        (17, 24),
        (18, 24),
        (19, 24),
    ];
    for place in 0..=255_u8 {
        let counterpart = places.iter().find(|(here, _)| *here == place);
        let expected = counterpart.map(|(_, there)| message((4, 0, [0, 0, 0, *there])));
        assert_eq!(to6((12, 0, [place, 9, 9, 9])), expected, "{place}");
        assert_eq!(to6((12, 2, [place, 9, 9, 9])), expected, "{place}");
        assert_eq!(to6((12, 1, [place, 9, 9, 9])), None);
    }
    for kind in (0..=255).filter(|kind| !matches!(kind, 3 | 11 | 12)) {
        assert_eq!(to6((kind, 0, [0; 4])), None, "{kind}");
    }
}

#[test]
fn every_error_of_ipv6_has_its_counterpart_or_none() {
    // RFC 7915 §5.2, and figure 6.
    let to4 = |said| message(said).from6_to4();
    let expect = |said| Some(message(said));
    for (code, there) in [(0, 1), (1, 10), (2, 1), (3, 1), (4, 3)] {
        assert_eq!(to4((1, code, [9; 4])), expect((3, there, [0; 4])), "1/{code}");
    }
    assert_eq!(to4((1, 5, [0; 4])), None);
    for (mtu, told) in [(1280_u32, 1260_u16), (1500, 1480), (0, 0), (65_555, 65_535), (u32::MAX, 65_535)] {
        let [high, low] = told.to_be_bytes();
        assert_eq!(to4((2, 0, mtu.to_be_bytes())), expect((3, 4, [0, 0, high, low])), "{mtu}");
    }
    for code in [0, 1] {
        assert_eq!(to4((3, code, [9; 4])), expect((11, code, [0; 4])));
    }
    assert_eq!(to4((4, 1, [0, 0, 0, 6])), expect((3, 2, [0; 4])));
    assert_eq!(to4((4, 2, [0, 0, 0, 6])), None);
    for place in 0..=300_u32 {
        let there = match place {
            0 | 1 => u8::try_from(place).ok(),
            4 | 5 => Some(2),
            6 => Some(9),
            7 => Some(8),
            8..24 => Some(12),
            24..40 => Some(16),
            _ => None,
        };
        let expected = there.map(|there| message((12, 0, [there, 0, 0, 0])));
        assert_eq!(to4((4, 0, place.to_be_bytes())), expected, "{place}");
    }
    for kind in (0..=255).filter(|kind| !matches!(kind, 1..=4)) {
        assert_eq!(to4((kind, 0, [0; 4])), None, "{kind}");
    }
}

#[test]
fn within_a_version_an_error_keeps_what_its_type_says() {
    let within4 = |said| message(said).within4();
    assert_eq!(within4((3, 4, [7, 7, 5, 6])), message((3, 4, [0, 0, 5, 6])));
    assert_eq!(within4((3, 1, [7, 7, 5, 6])), message((3, 1, [0; 4])));
    assert_eq!(within4((11, 1, [7; 4])), message((11, 1, [0; 4])));
    assert_eq!(within4((12, 2, [20, 7, 7, 7])), message((12, 2, [20, 0, 0, 0])));
    let within6 = |said| message(said).within6();
    assert_eq!(within6((2, 0, [0, 0, 5, 6])), message((2, 0, [0, 0, 5, 6])));
    assert_eq!(within6((4, 1, [0, 0, 0, 6])), message((4, 1, [0, 0, 0, 6])));
    assert_eq!(within6((1, 3, [7; 4])), message((1, 3, [0; 4])));
    assert_eq!(within6((3, 1, [7; 4])), message((3, 1, [0; 4])));
}
