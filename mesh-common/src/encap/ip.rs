//! Ethernet and outer IP headers.
#![expect(clippy::cast_possible_truncation, reason = "fields are cut from words on purpose")]

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Inner, unmap_ipv4};
use crate::{
    abi::{BackendEntry, halves},
    checksum,
};

/// TTL and hop limit of outer headers.
const HOPS: u8 = 64;
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

/// Bytes that an outer IPv4 header adds.
pub const LENGTH_IPV4: u16 = 20;
/// Bytes that an outer IPv6 header adds.
pub const LENGTH_IPV6: u16 = 40;

/// The sum that goes into [`BackendEntry::checksum`]: all words of the outer IPv4 header that no packet changes.
#[must_use]
pub fn ipv4_sum(source: [u8; 4], destination: [u8; 4]) -> u16 {
    let [version, flags, hops] = [[0x45, 0], DONT_FRAGMENT, [HOPS, 0]];
    let sum = [version, flags, hops]
        .iter()
        .chain(source.as_chunks::<2>().0)
        .chain(destination.as_chunks::<2>().0)
        .fold(0, |sum, word| checksum::add(sum, word));
    !checksum::finish(sum)
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
    pub(super) macs: u64,
    pub(super) macs_end: u32,
    pub(super) first: u32,
    pub(super) middle: u64,
    pub(super) checksum: u16,
    pub(super) source: u32,
    pub(super) destination: u32,
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
    pub(super) macs: u64,
    pub(super) macs_end: u32,
    pub(super) kind: u16,
    pub(super) first: u64,
    pub(super) source: [u64; 2],
    pub(super) destination: [u64; 2],
}

/// The outer IPv4 header (RFC 2003 §3.1, RFC 4213 §3.5). It is never fragmented, so its id is 0 (RFC 6864 §4.1).
/// `suffix` are the lowest bits of the source address, of which the entry's is the prefix.
#[inline(always)]
#[must_use]
pub const fn ipv4(backend: &BackendEntry, inner: Inner, suffix: u32) -> Outer4 {
    let (macs, macs_end) = backend.macs();
    let length = (inner.length + LENGTH_IPV4).to_be();
    let suffix = (suffix as u16).to_be();
    let sum = backend.checksum as u32
        + u16::from_ne_bytes([0, inner.traffic_class]) as u32
        + u16::from_ne_bytes([0, inner.protocol]) as u32
        + length as u32
        + suffix as u32;
    Outer4 {
        macs,
        macs_end,
        first: ETHERTYPE_IPV4 as u32 | 0x45 << 16 | (inner.traffic_class as u32) << 24,
        middle: length as u64
            | (u16::from_ne_bytes(DONT_FRAGMENT) as u64) << 32
            | (HOPS as u64) << 48
            | (inner.protocol as u64) << 56,
        checksum: checksum::finish(sum),
        source: u32::from_ne_bytes(unmap_ipv4(backend.source)) | (suffix as u32) << 16,
        destination: u32::from_ne_bytes(unmap_ipv4(backend.address)),
    }
}

/// The outer IPv6 header (RFC 2473 §5.1); the flow label spreads flows on the way (RFC 6438). `suffix` as in [`ipv4`].
#[inline(always)]
#[must_use]
pub const fn ipv6(backend: &BackendEntry, inner: Inner, hash: u64, suffix: u32) -> Outer6 {
    let (macs, macs_end) = backend.macs();
    let label = hash as u32 & 0x000f_ffff;
    let first = (6 << 28 | (inner.traffic_class as u32) << 20 | label).to_be();
    let [source, source_end] = halves(backend.source);
    Outer6 {
        macs,
        macs_end,
        kind: ETHERTYPE_IPV6,
        first: first as u64
            | (inner.length.to_be() as u64) << 32
            | (inner.protocol as u64) << 48
            | (HOPS as u64) << 56,
        source: [source, source_end | (suffix.to_be() as u64) << 32],
        destination: halves(backend.address),
    }
}

const _: () = assert!(size_of::<Outer4>() == 14 + 20 && size_of::<Outer6>() == 14 + 40);
