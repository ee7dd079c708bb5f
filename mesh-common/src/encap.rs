//! Outer headers: what is put in front of a packet on its way to a backend.

use crate::{
    abi::{BackendEntry, protocol},
    checksum,
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

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

/// The outer IPv4 header (RFC 2003 §3.1, RFC 4213 §3.5). It is never fragmented, so its id is 0 (RFC 6864 §4.1).
#[inline(always)]
#[must_use]
pub const fn ipv4(backend: &BackendEntry, inner: Inner) -> Ipv4Hdr {
    let tot_len = (inner.length + LENGTH_IPV4).to_be_bytes();
    let sum = backend.checksum
        + u16::from_ne_bytes([0, inner.traffic_class]) as u32
        + u16::from_ne_bytes([0, inner.protocol]) as u32
        + u16::from_ne_bytes(tot_len) as u32;
    Ipv4Hdr {
        vihl: 0x45,
        tos: inner.traffic_class,
        tot_len,
        id: [0; 2],
        frags: DONT_FRAGMENT,
        ttl: HOPS,
        proto: inner.protocol,
        check: checksum::finish(sum).to_ne_bytes(),
        src_addr: unmap_ipv4(backend.source),
        dst_addr: unmap_ipv4(backend.address),
    }
}

/// The outer IPv6 header (RFC 2473 §5.1); the flow label spreads flows on the way (RFC 6438).
#[inline(always)]
#[must_use]
pub const fn ipv6(backend: &BackendEntry, inner: Inner, hash: u64) -> Ipv6Hdr {
    #[expect(clippy::cast_possible_truncation, reason = "any 20 bits of the hash will do")]
    let label = hash as u32 & 0x000f_ffff;
    Ipv6Hdr {
        vcf: (6 << 28 | (inner.traffic_class as u32) << 20 | label).to_be_bytes(),
        payload_len: inner.length.to_be_bytes(),
        next_hdr: inner.protocol,
        hop_limit: HOPS,
        src_addr: backend.source,
        dst_addr: backend.address,
    }
}

/// Bytes that an outer IPv4 header adds.
pub const LENGTH_IPV4: u16 = 20;
/// Bytes that an outer IPv6 header adds.
pub const LENGTH_IPV6: u16 = 40;

const _: () = assert!(protocol::IPIP == 4 && protocol::IPV6 == 41);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
    use proptest::prelude::*;

    fn bytes<T: Copy, const N: usize>(header: T) -> [u8; N] {
        assert_eq!(size_of::<T>(), N);
        #[expect(unsafe_code, reason = "headers are plain bytes")]
        // SAFETY: sizes are equal, and the headers of network-types have no padding.
        unsafe {
            core::mem::transmute_copy(&header)
        }
    }

    proptest! {
        #[test]
        fn the_outer_ipv4_header_is_valid(source: [u8; 4], address: [u8; 4], length in 20u16..65000, traffic_class: u8) {
            let backend = BackendEntry {
                source: map_ipv4(source),
                address: map_ipv4(address),
                checksum: ipv4_sum(source, address),
                ..BackendEntry::default()
            };
            let header: [u8; 20] = bytes(ipv4(&backend, Inner { length, traffic_class, protocol: protocol::IPV6 }));
            let header = Ipv4HeaderSlice::from_slice(&header).unwrap().to_header();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!((header.source, header.destination), (source, address));
            prop_assert_eq!((header.total_len, header.protocol.0), (length + 20, 41));
            prop_assert_eq!((header.dscp.value() << 2) | header.ecn.value(), traffic_class);
            prop_assert!(header.dont_fragment);
        }

        #[test]
        fn the_outer_ipv6_header_is_valid(source: [u8; 16], address: [u8; 16], length: u16, traffic_class: u8, hash: u64) {
            let backend = BackendEntry { source, address, ..BackendEntry::default() };
            let header: [u8; 40] = bytes(ipv6(&backend, Inner { length, traffic_class, protocol: protocol::IPIP }, hash));
            let header = Ipv6HeaderSlice::from_slice(&header).unwrap().to_header();
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
