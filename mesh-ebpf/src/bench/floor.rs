//! Floors: parse the packet, hash its flow, look one backend up, push an outer header, send.
//!
//! No service, no flow state, no counters, no checks beyond what the verifier asks for: nothing that balances over
//! tunnels can be faster, so that ratios to these mean something on any machine.
#![expect(clippy::cast_possible_truncation, reason = "words are cut into header fields on purpose")]

use crate::maps::{self, BACKENDS};
use mesh_common::{abi::protocol, checksum, hash};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6, Ipv4, Ipv6, Ports},
    packet::{Header, Packet},
};

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// Hop limit 64.
const HOPS: u64 = 64;

/// From the Ethernet header to the ports.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Frame4(Ethernet, Ipv4, Ports);

/// From the Ethernet header to the ports.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Frame6(Ethernet, Ipv6, Ports);

/// Ethernet and IPv4 header as words.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Outer4([u64; 4], u16);

/// Ethernet and IPv6 header as words.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Outer6([u64; 6], u32, u16);

macro_rules! header {
    ($($name:ident),+) => {
        $(
            #[expect(unsafe_code, reason = "a promise about the layout")]
            // SAFETY: packed integers.
            unsafe impl Header for $name {}
        )+
    };
}

header!(Frame4, Frame6, Outer4, Outer6);

/// IPv4 in IPv4.
#[inline(always)]
pub(crate) fn ipv4(packet: Packet) -> Option<()> {
    let Frame4(ethernet, header, ports) = packet.read(0)?;
    if ethernet.kind != IPV4 || header.version_length != 0x45 || header.protocol != protocol::TCP {
        return None;
    }
    let hash = hash::flow4(SEED, header.source.to_ne_bytes(), ports.source.to_ne_bytes());
    let backend = maps::floor_backend(hash::slot(hash, BACKENDS))?;
    let mut packet = packet.move_head(-20)?;
    packet.write(0, outer4(backend, header.traffic_class, header.length))
}

#[inline(always)]
const fn outer4(backend: &[u64; 8], tos: u8, length: u16) -> Outer4 {
    let [macs, macs_end, addresses, sum, ..] = *backend;
    let length = (u16::from_be(length) + 20).to_be() as u64;
    let tos = tos as u64;
    let check = checksum::finish(sum as u32 + (tos << 8) as u32 + length as u32) as u64;
    Outer4(
        [
            macs,
            macs_end & 0xffff_ffff | (IPV4 as u64) << 32 | 0x45 << 48 | tos << 56,
            length | HOPS << 48 | (protocol::IPIP as u64) << 56,
            check | addresses << 16,
        ],
        (addresses >> 48) as u16,
    )
}

/// IPv6 in IPv6.
#[inline(always)]
pub(crate) fn ipv6(packet: Packet) -> Option<()> {
    let Frame6(ethernet, header, ports) = packet.read(0)?;
    if ethernet.kind != IPV6 || header.next != protocol::TCP {
        return None;
    }
    let [high, low] = header.source;
    let hash = hash::flow4(SEED, [0; 4], ports.source.to_ne_bytes()) ^ high.wrapping_mul(SEED) ^ low;
    let backend = maps::floor_backend(hash::slot(hash.wrapping_mul(SEED), BACKENDS))?;
    let mut packet = packet.move_head(-40)?;
    packet.write(0, outer6(backend, header.version_class_label, header.length, hash))
}

#[inline(always)]
const fn outer6(backend: &[u64; 8], class: u32, length: u16, hash: u64) -> Outer6 {
    let [macs, macs_end, s0, s1, d0, d1, ..] = *backend;
    let class = (class & 0xffff) as u64 | (hash & 0xffff) << 16;
    let length = (u16::from_be(length) + 40).to_be() as u64;
    Outer6(
        [
            macs,
            macs_end & 0xffff_ffff | (IPV6 as u64) << 32 | class << 48,
            class >> 16 | length << 16 | (protocol::IPV6 as u64) << 32 | HOPS << 40 | s0 << 48,
            s0 >> 16 | s1 << 48,
            s1 >> 16 | d0 << 48,
            d0 >> 16 | d1 << 48,
        ],
        (d1 >> 16) as u32,
        (d1 >> 48) as u16,
    )
}
