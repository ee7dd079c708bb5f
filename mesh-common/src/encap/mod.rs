//! Outer headers: what is put in front of a packet on its way to a backend.
//!
//! Headers are put together in words for processors that store the lowest byte first; the kernel programs are built
//! for no other. Few wide stores write words, where arrays of bytes would be copied byte by byte.

mod address;
mod bytes;
mod ip;
#[cfg(test)]
mod tests;
mod udp;

pub use address::{is_mapped, map_ipv4, unmap_ipv4};
pub use bytes::Headers;
pub use ip::{LENGTH_IPV4, LENGTH_IPV6, Outer4, Outer6, ipv4, ipv4_sum, ipv6};
pub use udp::{
    GENEVE_PORT, GUE_PORT, Geneve4, Geneve6, LENGTH_GENEVE, LENGTH_GENEVE_IPV4, LENGTH_GENEVE_IPV6,
    LENGTH_UDP, geneve4, geneve6, udp,
};

use crate::abi::{BackendEntry, forward, protocol};

const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();

/// The packet that is wrapped, as the outer IP header sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Bytes behind the outer IP header.
    pub length: u16,
    /// TOS or traffic class: DSCP is copied to the outer header (RFC 2983, uniform), ECN too (RFC 6040 §4.1, normal).
    pub traffic_class: u8,
    /// [`protocol::IPIP`] or [`protocol::IPV6`], or [`protocol::UDP`].
    pub protocol: u8,
}

impl Inner {
    /// The same packet behind a UDP header and `more` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn in_udp(self, more: u16) -> Self {
        Self { length: self.length + LENGTH_UDP + more, protocol: protocol::UDP, ..self }
    }
}

/// Most bits of an outer IPv4 source that vary: those of the last word of its checksum.
pub const MOST_SPREAD_IPV4: u8 = 16;
/// Most bits of an outer IPv6 source that vary.
pub const MOST_SPREAD_IPV6: u8 = 32;

/// The lowest bits of an outer source address, which differ between flows so that the receiver's queues, and routers
/// that hash addresses, spread them. From the middle of the hash: its highest bits pick the slot, its lowest are those
/// of the UDP source port.
#[inline(always)]
#[must_use]
pub const fn suffix(backend: &BackendEntry, hash: u64) -> u32 {
    let mask = 1_u64.wrapping_shl(backend.spread as u32) - 1;
    #[expect(clippy::cast_possible_truncation, reason = "no more than 32 bits vary")]
    let suffix = (hash >> 16 & mask) as u32;
    suffix
}

/// Bytes that a packet, IPv4 or IPv6, gains on its way; `kind` is one of [`forward`].
#[must_use]
pub const fn overhead(kind: u8, inner_is_ipv4: bool) -> u16 {
    let geneve = LENGTH_UDP + if inner_is_ipv4 { LENGTH_GENEVE_IPV4 } else { LENGTH_GENEVE_IPV6 };
    match kind {
        forward::IPV4 | forward::SPREAD_IPV4 => LENGTH_IPV4,
        forward::IPV6 | forward::SPREAD_IPV6 => LENGTH_IPV6,
        forward::GUE_IPV4 => LENGTH_IPV4 + LENGTH_UDP,
        forward::GUE_IPV6 => LENGTH_IPV6 + LENGTH_UDP,
        forward::GENEVE_IPV4 => LENGTH_IPV4 + geneve,
        forward::GENEVE_IPV6 => LENGTH_IPV6 + geneve,
        forward::NAT_IPV6 if inner_is_ipv4 => LENGTH_IPV6 - LENGTH_IPV4,
        _ => 0,
    }
}

/// A field's place in a word, in bytes.
#[inline(always)]
const fn at(byte: u32, field: u64) -> u64 {
    field << (8 * byte)
}

const _: () = {
    assert!(protocol::IPIP == 4 && protocol::IPV6 == 41 && protocol::UDP == 17);
    assert!(cfg!(target_endian = "little"));
};
