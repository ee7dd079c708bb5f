//! Outer headers: what is put in front of a packet on its way to a backend.
//!
//! Headers are put together in words for processors that store the lowest byte first; the kernel programs are built
//! for no other.
#![expect(clippy::cast_possible_truncation, reason = "fields are cut from words on purpose")]

use crate::{
    abi::{BackendEntry, halves, protocol},
    checksum,
};

/// TTL and hop limit of outer headers.
const HOPS: u8 = 64;
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

/// Bytes in front of an IPv4 address that make it IPv4-mapped (RFC 4291 §2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// An IPv4 address as an IPv4-mapped IPv6 address.
#[must_use]
pub const fn map_ipv4(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The IPv4 address in an IPv4-mapped one, whatever stands in front of it.
#[inline(always)]
#[must_use]
pub const fn unmap_ipv4(address: [u8; 16]) -> [u8; 4] {
    let [.., a, b, c, d] = address;
    [a, b, c, d]
}

/// Whether the address is IPv4-mapped.
#[must_use]
pub fn is_mapped(address: [u8; 16]) -> bool {
    address.starts_with(&MAPPED)
}

/// The packet that is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Bytes, from its IP header on.
    pub length: u16,
    /// TOS or traffic class: DSCP is copied to the outer header (RFC 2983, uniform), ECN too (RFC 6040 §4.1, normal).
    pub traffic_class: u8,
    /// [`protocol::IPIP`] or [`protocol::IPV6`].
    pub protocol: u8,
}

/// The sum that goes into [`BackendEntry::checksum`]: all words of the outer IPv4 header that no packet changes.
#[must_use]
pub fn ipv4_sum(source: [u8; 4], destination: [u8; 4]) -> u32 {
    let [version, flags, hops] = [[0x45, 0], DONT_FRAGMENT, [HOPS, 0]];
    [version, flags, hops]
        .iter()
        .chain(source.as_chunks::<2>().0)
        .chain(destination.as_chunks::<2>().0)
        .fold(0, |sum, word| checksum::add(sum, word))
}

/// An Ethernet and an outer IPv4 header, ready to be written: few wide stores, none of which is put together from parts
/// where the backend's entry has them whole.
///
/// ```text
///  0                 8            12            16                24         26       30
/// +-----------------+------------+-------------+-----------------+----------+--------+-------------+
/// | destination and | …source    | 0800,       | length, id, DF, | checksum | source | destination |
/// | source MAC…     | MAC        | 45, TOS     | TTL, protocol   |          |        |             |
/// +-----------------+------------+-------------+-----------------+----------+--------+-------------+
/// ```
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct Outer4 {
    macs: u64,
    macs_end: u32,
    first: u32,
    middle: u64,
    checksum: u16,
    source: u32,
    destination: u32,
}

/// An Ethernet and an outer IPv6 header, ready to be written.
///
/// ```text
///  0                 8            12     14                        22       38
/// +-----------------+------------+------+-------------------------+--------+-------------+
/// | destination and | …source    | 86dd | 6, class, label, length,| source | destination |
/// | source MAC…     | MAC        |      | next header, hop limit  |        |             |
/// +-----------------+------------+------+-------------------------+--------+-------------+
/// ```
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct Outer6 {
    macs: u64,
    macs_end: u32,
    kind: u16,
    first: u64,
    source: [u64; 2],
    destination: [u64; 2],
}
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();

/// The outer IPv4 header (RFC 2003 §3.1, RFC 4213 §3.5). It is never fragmented, so its id is 0 (RFC 6864 §4.1).
#[inline(always)]
#[must_use]
pub const fn ipv4(backend: &BackendEntry, inner: Inner) -> Outer4 {
    let (macs, macs_end) = backend.macs();
    let length = (inner.length + LENGTH_IPV4).to_be();
    let sum = backend.checksum
        + u16::from_ne_bytes([0, inner.traffic_class]) as u32
        + u16::from_ne_bytes([0, inner.protocol]) as u32
        + length as u32;
    Outer4 {
        macs,
        macs_end,
        first: ETHERTYPE_IPV4 as u32 | 0x45 << 16 | (inner.traffic_class as u32) << 24,
        middle: length as u64
            | (u16::from_ne_bytes(DONT_FRAGMENT) as u64) << 32
            | (HOPS as u64) << 48
            | (inner.protocol as u64) << 56,
        checksum: checksum::finish(sum),
        source: u32::from_ne_bytes(unmap_ipv4(backend.source)),
        destination: u32::from_ne_bytes(unmap_ipv4(backend.address)),
    }
}

/// The outer IPv6 header (RFC 2473 §5.1); the flow label spreads flows on the way (RFC 6438).
#[inline(always)]
#[must_use]
pub const fn ipv6(backend: &BackendEntry, inner: Inner, hash: u64) -> Outer6 {
    let (macs, macs_end) = backend.macs();
    let label = hash as u32 & 0x000f_ffff;
    let first = (6 << 28 | (inner.traffic_class as u32) << 20 | label).to_be();
    Outer6 {
        macs,
        macs_end,
        kind: ETHERTYPE_IPV6,
        first: first as u64
            | (inner.length.to_be() as u64) << 32
            | (inner.protocol as u64) << 48
            | (HOPS as u64) << 56,
        source: halves(backend.source),
        destination: halves(backend.address),
    }
}

/// Bytes that an outer IPv4 header adds.
pub const LENGTH_IPV4: u16 = 20;
/// Bytes that an outer IPv6 header adds.
pub const LENGTH_IPV6: u16 = 40;

const _: () = {
    assert!(protocol::IPIP == 4 && protocol::IPV6 == 41);
    assert!(cfg!(target_endian = "little"));
    assert!(size_of::<Outer4>() == 14 + 20 && size_of::<Outer6>() == 14 + 40);
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice};
    use proptest::prelude::*;
    use std::vec::Vec;

    const MACS: ([u8; 6], [u8; 6]) = ([2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13]);

    fn backend(source: [u8; 16], address: [u8; 16]) -> BackendEntry {
        let (destination_mac, source_mac) = MACS;
        BackendEntry { destination_mac, source_mac, source, address, ..BackendEntry::default() }
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
        let rest = [first, source[0], source[1], destination[0], destination[1]].map(u64::to_le_bytes);
        [start.as_slice(), &rest.concat()].concat()
    }

    /// The IP header behind the right Ethernet header.
    fn behind_ethernet(frame: &[u8], kind: u16) -> &[u8] {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).unwrap();
        assert_eq!((ethernet.destination(), ethernet.source()), MACS);
        assert_eq!(ethernet.ether_type().0, kind);
        &frame[14..]
    }

    proptest! {
        #[test]
        fn the_outer_ipv4_header_is_valid(source: [u8; 4], address: [u8; 4], length in 20u16..65000, traffic_class: u8) {
            let backend = BackendEntry {
                checksum: ipv4_sum(source, address),
                ..backend(map_ipv4(source), map_ipv4(address))
            };
            let frame = bytes4(ipv4(&backend, Inner { length, traffic_class, protocol: protocol::IPV6 }));
            let header = Ipv4HeaderSlice::from_slice(behind_ethernet(&frame, 0x0800)).unwrap().to_header();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!((header.source, header.destination), (source, address));
            prop_assert_eq!((header.total_len, header.protocol.0), (length + 20, 41));
            prop_assert_eq!((header.dscp.value() << 2) | header.ecn.value(), traffic_class);
            prop_assert_eq!((header.identification, header.time_to_live), (0, 64));
            prop_assert!(header.dont_fragment);
        }

        #[test]
        fn the_outer_ipv6_header_is_valid(source: [u8; 16], address: [u8; 16], length: u16, traffic_class: u8, hash: u64) {
            let backend = backend(source, address);
            let frame = bytes6(ipv6(&backend, Inner { length, traffic_class, protocol: protocol::IPIP }, hash));
            let header = Ipv6HeaderSlice::from_slice(behind_ethernet(&frame, 0x86dd)).unwrap().to_header();
            prop_assert_eq!((header.source, header.destination), (source, address));
            prop_assert_eq!((header.payload_length, header.next_header.0, header.hop_limit), (length, 4, 64));
            prop_assert_eq!(header.traffic_class, traffic_class);
            prop_assert_eq!(u64::from(header.flow_label.value()), hash & 0xf_ffff);
        }

        #[test]
        fn mapping_comes_back(address: [u8; 4]) {
            prop_assert!(is_mapped(map_ipv4(address)));
            prop_assert_eq!(unmap_ipv4(map_ipv4(address)), address);
        }
    }
}
