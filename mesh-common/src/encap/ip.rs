//! Ethernet and outer IP headers.
#![expect(clippy::cast_possible_truncation, reason = "fields are cut from words on purpose")]

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Inner, address::mapped_word, at};
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

/// An Ethernet and an outer IPv4 header, ready to be written.
///
/// ```text
///  0             8               16                24                32
/// +-------------+-----------+---+-----------------+-----------------+----+
/// | destination | source MAC,   | length, id,     | checksum,       | …  |
/// | MAC, source | 0800, 45, TOS | DF, 64, proto   | source, destin… | …  |
/// +-------------+---------------+-----------------+-----------------+----+
/// ```
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct Outer4(pub(super) [u64; 4], pub(super) u16);

/// An Ethernet and an outer IPv6 header, ready to be written.
///
/// ```text
///  0             8               16                24      32      40      48
/// +-------------+---------------+-----------------+-------+-------+-------+------+
/// | destination | source MAC,   | …label, length, | …source       | …destination |
/// | MAC, source | 86dd, 6, TC,… | proto, 64, sou… | destination…  | …            |
/// +-------------+---------------+-----------------+-------+-------+-------+------+
/// ```
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct Outer6(pub(super) [u64; 6], pub(super) u32, pub(super) u16);

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
    let [source, address] = [mapped_word(backend.source), mapped_word(backend.address)];
    Outer4(
        [
            macs,
            macs_end as u64 | at(4, ETHERTYPE_IPV4 as u64) | at(6, 0x45) | at(7, inner.traffic_class as u64),
            length as u64
                | at(4, u16::from_ne_bytes(DONT_FRAGMENT) as u64)
                | at(6, HOPS as u64)
                | at(7, inner.protocol as u64),
            checksum::finish(sum) as u64 | at(2, source | at(2, suffix as u64)) | at(6, address),
        ],
        (address >> 16) as u16,
    )
}

/// The outer IPv6 header (RFC 2473 §5.1); the flow label spreads flows on the way (RFC 6438). `suffix` as in [`ipv4`].
#[inline(always)]
#[must_use]
pub const fn ipv6(backend: &BackendEntry, inner: Inner, hash: u64, suffix: u32) -> Outer6 {
    let (macs, macs_end) = backend.macs();
    let label = hash as u32 & 0x000f_ffff;
    let first = (6 << 28 | (inner.traffic_class as u32) << 20 | label).to_be() as u64;
    let [source, source_end] = halves(backend.source);
    let source_end = source_end | at(4, suffix.to_be() as u64);
    let [address, address_end] = halves(backend.address);
    Outer6(
        [
            macs,
            macs_end as u64 | at(4, ETHERTYPE_IPV6 as u64) | at(6, first),
            first >> 16
                | at(2, inner.length.to_be() as u64)
                | at(4, inner.protocol as u64)
                | at(5, HOPS as u64)
                | at(6, source),
            source >> 16 | at(6, source_end),
            source_end >> 16 | at(6, address),
            address >> 16 | at(6, address_end),
        ],
        (address_end >> 16) as u32,
        (address_end >> 48) as u16,
    )
}

const _: () = assert!(size_of::<Outer4>() == 14 + 20 && size_of::<Outer6>() == 14 + 40);
