//! What stands between an outer IP header and the packet where both are not neighbours: UDP, and Geneve behind it.
#![expect(clippy::cast_possible_truncation, reason = "fields are cut from words on purpose")]

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, at};
use crate::abi::ServiceKey;

/// Where GUE is received (IANA).
pub const GUE_PORT: u16 = 6080;
/// Where Geneve is received (IANA, RFC 8926 §3.3).
pub const GENEVE_PORT: u16 = 6081;

/// Bytes of a UDP header.
pub const LENGTH_UDP: u16 = 8;
/// Bytes of a Geneve header without options.
pub const LENGTH_GENEVE: u16 = 8;
/// Bytes of the Geneve header in front of an IPv4 packet.
pub const LENGTH_GENEVE_IPV4: u16 = LENGTH_GENEVE + 12;
/// Bytes of the Geneve header in front of an IPv6 packet.
pub const LENGTH_GENEVE_IPV6: u16 = LENGTH_GENEVE + 24;

/// The lowest of the ports that nobody is assigned (RFC 6335 §6): the source port is one of them.
const EPHEMERAL: u16 = 0xc000;

/// The UDP header of GUE and Geneve, ready to be written, in front of `length` bytes less its own. Without a checksum:
/// the inner packet has its own, and tunnels may go without over IPv6, too (RFC 6935 §5, RFC 6936 §4). In GUE's variant
/// 1 nothing stands between it and the packet, whose version tells the families apart (draft-ietf-intarea-gue-09 §4).
///
/// ```text
///  0           2                4        6
/// +-----------+----------------+--------+--------------+
/// | source    | destination    | length | checksum: 0  |
/// +-----------+----------------+--------+--------------+
/// ```
#[inline(always)]
#[must_use]
pub const fn udp(port: u16, length: u16, hash: u64) -> u64 {
    let source = EPHEMERAL | (hash as u16 & !EPHEMERAL);
    source.to_be() as u64 | at(2, port.to_be() as u64) | at(4, length.to_be() as u64)
}

/// The class of the one option: of those for experiments (RFC 8926 §7).
const OPTION_CLASS: u16 = 0xffff;
/// The type of the one option: whom the packet is for. Its highest bit is 0: who does not know it may skip it.
const OPTION_TYPE: u8 = 1;

/// A Geneve header (RFC 8926 §3.4) in front of an IPv4 packet, with the option that names its service.
///
/// ```text
///  0                                    8                       16
/// +---------------+------+-------------+-------+---+---+-------+------+-------+---+
/// | option words  | 0800 | VNI 0       | ffff  | 1 | 2 | VIP   | port | proto | 0 |
/// +---------------+------+-------------+-------+---+---+-------+------+-------+---+
/// ```
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct Geneve4(pub(super) [u64; 2], pub(super) u32);

/// A Geneve header in front of an IPv6 packet; as [`Geneve4`], with 16 bytes of VIP.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct Geneve6(pub(super) [u64; 4]);

/// Version 0, no bits, virtual network 0.
#[inline(always)]
const fn geneve(kind: u16, length: u16) -> u64 {
    let options = (length - LENGTH_GENEVE) / 4;
    options as u64 | at(2, kind as u64)
}

/// The option's header, before so many bytes of data.
#[inline(always)]
const fn option(data: u16) -> u64 {
    OPTION_CLASS.to_be() as u64 | at(2, OPTION_TYPE as u64) | at(3, (data / 4) as u64)
}

/// Port, protocol and a zero, as the key has them behind each other.
#[inline(always)]
const fn port_and_protocol(first: u64) -> u64 {
    first >> 32 & 0x00ff_ffff
}

/// The Geneve header of an IPv4 service.
#[inline(always)]
#[must_use]
pub const fn geneve4(ServiceKey([first, ..]): ServiceKey) -> Geneve4 {
    Geneve4(
        [geneve(ETHERTYPE_IPV4, LENGTH_GENEVE_IPV4), option(8) | at(4, first & 0xffff_ffff)],
        port_and_protocol(first) as u32,
    )
}

/// The Geneve header of an IPv6 service.
#[inline(always)]
#[must_use]
pub const fn geneve6(ServiceKey([first, high, low]): ServiceKey) -> Geneve6 {
    Geneve6([
        geneve(ETHERTYPE_IPV6, LENGTH_GENEVE_IPV6),
        option(20) | at(4, high & 0xffff_ffff),
        high >> 32 | at(4, low & 0xffff_ffff),
        low >> 32 | at(4, port_and_protocol(first)),
    ])
}

const _: () = {
    assert!(size_of::<Geneve4>() == LENGTH_GENEVE_IPV4 as usize);
    assert!(size_of::<Geneve6>() == LENGTH_GENEVE_IPV6 as usize);
};
