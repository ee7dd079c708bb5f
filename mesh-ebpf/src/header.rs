//! Headers as integers, in the byte order of the wire.
//!
//! Fields are integers as wide as they are on the wire, so that each is one load; arrays of bytes would be loaded
//! byte by byte, or merged into words that straddle fields.

use crate::packet::Header;
use mesh_common::encap::{Geneve4, Geneve6, Outer4, Outer6};

/// An Ethernet header (IEEE 802.3).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination and source address.
    pub macs: Macs,
    /// What follows: [`IPV4`], [`IPV6`] or something else.
    pub kind: u16,
}

/// Both Ethernet addresses, as words.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Macs(pub u64, pub u32);

/// [`Ethernet::kind`] of IPv4.
pub const IPV4: u16 = 0x0800_u16.to_be();
/// [`Ethernet::kind`] of IPv6.
pub const IPV6: u16 = 0x86dd_u16.to_be();

/// An IPv4 header without options (RFC 791 §3.1).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Upper half: 4; lower half: the header's length in words of four bytes.
    pub version_length: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes, with the header.
    pub length: u16,
    /// Of fragments.
    pub id: u16,
    /// Flags and offset.
    pub fragment: u16,
    /// Hops left.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Of the header.
    pub checksum: u16,
    /// The sender.
    pub source: u32,
    /// The receiver.
    pub destination: u32,
}

/// The beginning of an IPv4 option (RFC 791 §3.1); those of one byte have no more than the first.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Option4 {
    /// Which option.
    pub kind: u8,
    /// Bytes of it, with these.
    pub length: u8,
    /// Of a route: where it goes on, in bytes from 1.
    pub pointer: u8,
}
/// An IPv4 header without options as the words that its checksum is of.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Ipv4Words(pub [u32; 5]);

/// An IPv6 header (RFC 8200 §3).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// 4 bits of version, 8 of traffic class, 20 of flow label.
    pub version_class_label: u32,
    /// Bytes, without the header.
    pub length: u16,
    /// What follows.
    pub next: u8,
    /// Hops left.
    pub hops: u8,
    /// The sender.
    pub source: [u64; 2],
    /// The receiver.
    pub destination: [u64; 2],
}

/// The first 8 bytes of an ICMP or ICMPv6 message (RFC 792, RFC 4443 §2.1).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Icmp {
    /// The type.
    pub kind: u8,
    /// What exactly.
    pub code: u8,
    /// Of the message.
    pub checksum: u16,
    /// By type.
    pub rest: u32,
}

impl Macs {
    /// Whether the frame is for a group of hosts (IEEE 802: the lowest bit of the first byte).
    #[inline(always)]
    #[must_use]
    pub const fn is_for_group(&self) -> bool {
        self.0.to_ne_bytes()[0] & 1 != 0
    }

    /// Destination and source in each other's place.
    #[inline(always)]
    #[must_use]
    pub const fn swapped(&self) -> Self {
        let (first, rest) = (self.0, self.1 as u64);
        let (destination, source) = (first & 0xffff_ffff_ffff, first >> 48 | rest << 16);
        #[expect(clippy::cast_possible_truncation, reason = "48 bits less 16 are left")]
        let upper = (destination >> 16) as u32;
        Self(source | destination << 48, upper)
    }
}

impl Ipv4 {
    /// Whether the packet is a fragment, but not the first.
    #[inline(always)]
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment & 0x1fff_u16.to_be() != 0
    }

    /// Whether the sender forbids fragmentation.
    #[inline(always)]
    #[must_use]
    pub const fn is_unfragmentable(&self) -> bool {
        self.fragment & 0x4000_u16.to_be() != 0
    }
}

impl Ipv6 {
    /// The first four bits: 6.
    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> u32 {
        u32::from_be(self.version_class_label) >> 28
    }

    /// DSCP and ECN: bits 4 to 11.
    #[inline(always)]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        let [first, second, ..] = self.version_class_label.to_ne_bytes();
        first << 4 | second >> 4
    }
}

/// What TCP and UDP have in common: source and destination port.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

/// A TCP header without options (RFC 9293 §3.1).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Tcp {
    /// Source and destination.
    pub ports: Ports,
    /// Sequence and acknowledgement numbers.
    pub numbers: [u32; 2],
    /// Upper half: the header's length in words of four bytes.
    pub offset: u8,
    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN.
    pub flags: u8,
    /// Window, checksum, urgent pointer.
    pub rest: [u16; 3],
}

/// The beginning of a TCP option (RFC 9293 §3.1); those of one byte have no more than the first.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct TcpOption {
    /// Which option.
    pub kind: u8,
    /// Bytes of it, with these.
    pub length: u8,
}

/// A UDP header (RFC 768).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Udp {
    /// Source and destination.
    pub ports: Ports,
    /// Bytes, with the header.
    pub length: u16,
    /// 0 over IPv4: none.
    pub checksum: u16,
}

/// A Geneve header without its options (RFC 8926 §3.4).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Geneve {
    /// Two bits of version, six of how many words of four bytes the options have.
    pub version_options: u8,
    /// Two bits that matter: [`Self::CONTROL`] and [`Self::CRITICAL`].
    pub bits: u8,
    /// What follows: an Ethernet type.
    pub kind: u16,
    /// 24 bits of virtual network, and 8 that are reserved.
    pub network: u32,
}

impl Tcp {
    /// Bytes of the header, options included; fewer than 20 are nonsense.
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> u8 {
        (self.offset >> 4) * 4
    }
}

impl Geneve {
    /// In [`Self::bits`]: no data, but a message to the tunnel's end itself.
    pub const CONTROL: u8 = 0x80;
    /// In [`Self::bits`]: some option must not be skipped.
    pub const CRITICAL: u8 = 0x40;
}

/// The beginning of a QUIC packet with a short header (RFC 8999 §5.2).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct QuicShort {
    /// The highest bit is not set.
    pub first: u8,
    /// The first byte of the destination connection id.
    pub id: u8,
}

/// The beginning of a QUIC packet with a long header (RFC 8999 §5.1).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct QuicLong {
    /// The highest bit is set.
    pub first: u8,
    /// The version.
    pub version: u32,
    /// Bytes of the destination connection id.
    pub length: u8,
    /// The first of these.
    pub id: u8,
}

impl Ports {
    /// Of a protocol that has none.
    pub const NONE: Self = Self { source: 0, destination: 0 };
}

impl Ethernet {
    /// Bytes of the header.
    pub const LENGTH: usize = size_of::<Self>();
}

impl Ipv4 {
    /// Bytes of the header.
    pub const LENGTH: usize = size_of::<Self>();
}

impl Ipv6 {
    /// Bytes of the header.
    pub const LENGTH: usize = size_of::<Self>();
}

/// The first 8 bytes of an IPv6 extension header (RFC 8200 §4).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Extension {
    /// What follows.
    pub next: u8,
    /// Units of 8 bytes without the first; reserved in a fragment header.
    pub length: u8,
    /// Of a routing header: type, and segments left. Of a fragment header: offset and flags.
    pub rest: u16,
    /// Of a fragment header: whose fragment it is.
    pub id: u32,
}

/// The Ethernet addresses and the first VLAN tag of a frame (IEEE 802.1Q), or the type of one without.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Tagged {
    /// Destination and source address.
    pub macs: Macs,
    /// The tag's type, [`VLAN`] or [`PROVIDER_VLAN`], and its priority and number.
    pub tag: u32,
    /// What follows: another tag's type, [`IPV4`], [`IPV6`] or something else.
    pub kind: u16,
}

/// [`Ethernet::kind`] of a VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100_u16.to_be();
/// [`Ethernet::kind`] of a provider's VLAN tag, in front of another (IEEE 802.1ad).
pub const PROVIDER_VLAN: u16 = 0x88a8_u16.to_be();

macro_rules! headers {
    ($($name:ident: $length:literal),+) => {
        $(
            #[expect(unsafe_code, reason = "a promise about the layout")]
            // SAFETY: integers without padding: any bytes are a value.
            unsafe impl Header for $name {}
            const _: () = assert!(size_of::<$name>() == $length);
        )+
    };
}

headers!(Ethernet: 14, Macs: 12, Ipv4: 20, Ipv4Words: 20, Ipv6: 40, Option4: 3, Ports: 4, Tcp: 20, TcpOption: 2, Udp: 8, Icmp: 8, Extension: 8, Tagged: 18, Outer4: 34, Outer6: 54);
headers!(Geneve: 8, Geneve4: 20, Geneve6: 32);
headers!(QuicShort: 2, QuicLong: 7);
headers!(u8: 1, u16: 2, u32: 4, u64: 8);

#[expect(unsafe_code, reason = "a promise about the layout")]
// SAFETY: integers.
unsafe impl<const N: usize> Header for [u64; N] {}
#[expect(unsafe_code, reason = "a promise about the layout")]
// SAFETY: as above.
unsafe impl<const N: usize> Header for [u32; N] {}
