//! Headers are parsed back by a library.

extern crate std;
use super::*;
use crate::abi::ServiceKey;
use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice};
use proptest::prelude::*;
use std::vec::Vec;

const MACS: ([u8; 6], [u8; 6]) = ([2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13]);

fn backend(source: [u8; 16], address: [u8; 16]) -> BackendEntry {
    let (destination_mac, source_mac) = MACS;
    BackendEntry { destination_mac, source_mac, source, address, ..BackendEntry::default() }
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn bytes4(outer: Outer4) -> Vec<u8> {
    let Outer4 { macs, macs_end, first, middle, checksum, source, destination } = outer;
    let start = [macs.to_le_bytes().as_slice(), &macs_end.to_le_bytes(), &first.to_le_bytes()].concat();
    let rest = [source, destination].map(u32::to_le_bytes).concat();
    [start.as_slice(), &middle.to_le_bytes(), &checksum.to_le_bytes(), &rest].concat()
}

fn bytes6(outer: Outer6) -> Vec<u8> {
    let Outer6 { macs, macs_end, kind, first, source, destination } = outer;
    let start = [macs.to_le_bytes().as_slice(), &macs_end.to_le_bytes(), &kind.to_le_bytes()].concat();
    [start, bytes(&[first, source[0], source[1], destination[0], destination[1]])].concat()
}

/// The IP header behind the right Ethernet header.
fn behind_ethernet(frame: &[u8], kind: u16) -> &[u8] {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).unwrap();
    assert_eq!((ethernet.destination(), ethernet.source()), MACS);
    assert_eq!(ethernet.ether_type().0, kind);
    &frame[14..]
}

/// The prefix of `bits` bits less than all, with nothing behind it.
fn cut<const N: usize>(mut address: [u8; N], bits: u8) -> [u8; N] {
    for bit in 0..usize::from(bits) {
        address[N - 1 - bit / 8] &= !(1 << (bit % 8));
    }
    address
}

proptest! {
    #[test]
    fn the_outer_ipv4_header_is_valid(
        source: [u8; 4], address: [u8; 4], length in 20u16..65000, traffic_class: u8, spread in 0u8..=16, hash: u64
    ) {
        let prefix = cut(source, spread);
        let backend = BackendEntry {
            checksum: ipv4_sum(prefix, address),
            spread,
            ..backend(map_ipv4(prefix), map_ipv4(address))
        };
        let inner = Inner { length, traffic_class, protocol: protocol::IPV6 };
        let suffix = suffix(&backend, hash);
        let frame = bytes4(ipv4(&backend, inner, suffix));
        let header = Ipv4HeaderSlice::from_slice(behind_ethernet(&frame, 0x0800)).unwrap().to_header();
        prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
        prop_assert_eq!(u32::from_be_bytes(header.source), u32::from_be_bytes(prefix) | suffix);
        prop_assert_eq!((cut(header.source, spread), header.destination), (prefix, address));
        prop_assert_eq!((header.total_len, header.protocol.0), (length + 20, 41));
        prop_assert_eq!((header.dscp.value() << 2) | header.ecn.value(), traffic_class);
        prop_assert_eq!((header.identification, header.time_to_live), (0, 64));
        prop_assert!(header.dont_fragment);
    }

    #[test]
    fn the_outer_ipv6_header_is_valid(
        source: [u8; 16], address: [u8; 16], length: u16, traffic_class: u8, spread in 0u8..=32, hash: u64
    ) {
        let prefix = cut(source, spread);
        let backend = BackendEntry { spread, ..backend(prefix, address) };
        let inner = Inner { length, traffic_class, protocol: protocol::IPIP };
        let suffix = suffix(&backend, hash);
        let frame = bytes6(ipv6(&backend, inner, hash, suffix));
        let header = Ipv6HeaderSlice::from_slice(behind_ethernet(&frame, 0x86dd)).unwrap().to_header();
        prop_assert_eq!(u128::from_be_bytes(header.source), u128::from_be_bytes(prefix) | u128::from(suffix));
        prop_assert_eq!((cut(header.source, spread), header.destination), (prefix, address));
        prop_assert_eq!((header.payload_length, header.next_header.0, header.hop_limit), (length, 4, 64));
        prop_assert_eq!(header.traffic_class, traffic_class);
        prop_assert_eq!(u64::from(header.flow_label.value()), hash & 0xf_ffff);
    }

    #[test]
    fn a_suffix_is_as_wide_as_the_spread(spread in 0u8..=32, hash: u64) {
        let backend = BackendEntry { spread, ..BackendEntry::default() };
        let all = suffix(&backend, u64::MAX);
        prop_assert_eq!(u64::from(all), (1u64 << spread) - 1);
        prop_assert_eq!(suffix(&backend, hash) & !all, 0);
    }

    #[test]
    fn the_udp_header_is_valid(port: u16, length: u16, hash: u64) {
        let header = udp(port, length, hash).to_le_bytes();
        let header = UdpHeaderSlice::from_slice(&header).unwrap().to_header();
        prop_assert!(header.source_port >= 49152);
        prop_assert_eq!(u64::from(header.source_port) & 0x3fff, hash & 0x3fff);
        prop_assert_eq!((header.destination_port, header.length, header.checksum), (port, length, 0));
    }

    #[test]
    fn the_geneve_header_names_an_ipv4_service(vip: [u8; 4], port: [u8; 2], number: u8) {
        let Geneve4(words, last) = geneve4(ServiceKey::v4(vip, port, number));
        let header = [bytes(&{ words }), last.to_le_bytes().to_vec()].concat();
        let base = [3, 0, 0x08, 0x00, 0, 0, 0, 0, 0xff, 0xff, 1, 2];
        prop_assert_eq!(header, [&base[..], &vip, &port, &[number, 0]].concat());
    }

    #[test]
    fn the_geneve_header_names_an_ipv6_service(vip: [u8; 16], port: [u8; 2], number: u8) {
        let Geneve6(words) = geneve6(ServiceKey::v6(vip, port, number));
        let base = [6, 0, 0x86, 0xdd, 0, 0, 0, 0, 0xff, 0xff, 1, 5];
        prop_assert_eq!(bytes(&words), [&base[..], &vip, &port, &[number, 0]].concat());
    }

    #[test]
    fn mapping_comes_back(address: [u8; 4]) {
        prop_assert!(is_mapped(map_ipv4(address)));
        prop_assert_eq!(unmap_ipv4(map_ipv4(address)), address);
    }
}

fn inner(protocol: u8) -> Inner {
    Inner { length: 60, traffic_class: 0x2e, protocol }
}

#[test]
fn headers_as_bytes_are_those_that_are_written_in_words() {
    const HASH: u64 = 0x0123_4567_89ab_cdef;
    let v4 = |forward| BackendEntry { forward, port: 6080, ..backend(map_ipv4([1; 4]), map_ipv4([2; 4])) };
    let v6 = |forward| BackendEntry { forward, port: 6080, ..backend([1; 16], [2; 16]) };
    let [key4, key6] = [ServiceKey::v4([3; 4], [0, 80], 6), ServiceKey::v6([3; 16], [0, 80], 6)];
    let headers = |entry: &BackendEntry, family, key| {
        Headers::new(entry, inner(family), key, HASH).unwrap().as_bytes().to_vec()
    };
    let spread = BackendEntry { spread: 8, ..v4(forward::SPREAD_IPV4) };
    let plain = bytes4(ipv4(&spread, inner(protocol::IPV6), suffix(&spread, HASH)));
    assert_eq!(headers(&spread, protocol::IPV6, key6), plain);
    let plain = bytes6(ipv6(&v6(forward::IPV6), inner(protocol::IPIP), HASH, 0));
    assert_eq!(headers(&v6(forward::IPV6), protocol::IPIP, key4), plain);
    let in_udp = inner(protocol::IPIP).in_udp(LENGTH_GENEVE_IPV4);
    let Geneve4(words, last) = geneve4(key4);
    let geneve = [
        bytes6(ipv6(&v6(forward::GENEVE_IPV6), in_udp, HASH, 0)),
        bytes(&[udp(6080, in_udp.length, HASH)]),
        bytes(&{ words }),
        last.to_le_bytes().to_vec(),
    ];
    assert_eq!(headers(&v6(forward::GENEVE_IPV6), protocol::IPIP, key4), geneve.concat());
    let in_udp = inner(protocol::IPV6).in_udp(LENGTH_GENEVE_IPV6);
    let Geneve6(words) = geneve6(key6);
    let outer = bytes4(ipv4(&v4(forward::GENEVE_IPV4), in_udp, 0));
    let geneve = [outer, bytes(&[udp(6080, in_udp.length, HASH)]), bytes(&{ words })].concat();
    assert_eq!(headers(&v4(forward::GENEVE_IPV4), protocol::IPV6, key6), geneve);
    let l2 = [&MACS.0[..], &MACS.1, &[0x86, 0xdd]].concat();
    assert_eq!(headers(&v6(forward::L2), protocol::IPV6, key6), l2);
    assert!(Headers::new(&v4(0), inner(protocol::IPIP), key4, HASH).is_none());
}

#[test]
fn what_is_put_in_front_is_as_long_as_it_says() {
    for (kind, outer) in [(forward::GENEVE_IPV4, LENGTH_IPV4), (forward::GENEVE_IPV6, LENGTH_IPV6)] {
        for (v4, geneve) in [(true, size_of::<Geneve4>()), (false, size_of::<Geneve6>())] {
            assert_eq!(usize::from(overhead(kind, v4) - outer), 8 + geneve);
        }
    }
    let [v4, v6] = [size_of::<Outer4>(), size_of::<Outer6>()].map(|length| length - 14);
    for inner in [true, false] {
        let plain = [forward::L2, forward::IPV4, forward::IPV6, forward::SPREAD_IPV4, forward::SPREAD_IPV6];
        assert_eq!(plain.map(|kind| usize::from(overhead(kind, inner))), [0, v4, v6, v4, v6]);
        let gue = [forward::GUE_IPV4, forward::GUE_IPV6].map(|kind| usize::from(overhead(kind, inner)));
        assert_eq!(gue, [v4 + 8, v6 + 8]);
    }
}
