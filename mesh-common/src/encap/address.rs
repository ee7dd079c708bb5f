//! IPv4 addresses where IPv6 addresses stand.

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
