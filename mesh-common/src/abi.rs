//! The layout of the maps, as both sides read and write it.
//!
//! Every type is `repr(C)`, made of integers and byte arrays, with its padding spelled out and its size asserted.
//! Elements of 64 bytes fill one cache line each, since memory-mapped arrays begin at a page; the types themselves are
//! aligned to 8 bytes only: the compiler would believe in a larger alignment on the kernel program's stack, too, which
//! has 8.
//! Zeroed memory means "never written": backend id 0, service id 0 and a zero key name nobody.

use crate::encap::map_ipv4;
use core::mem::{align_of, size_of};

/// Changes whenever a type here, a map's shape or the meaning of a field changes.
pub const ABI_VERSION: u32 = 4;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// IPv4 in an outer header (RFC 2003).
    pub const IPIP: u8 = 4;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 in an outer header (RFC 2473, RFC 4213).
    pub const IPV6: u8 = 41;
}

/// What identifies a service: VIP, port, protocol, packed so that an IPv4 service differs in its first word alone.
///
/// Addresses and ports keep the byte order of the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey(pub [u64; 3]);

impl ServiceKey {
    const V4: u64 = 4 << 56;
    const V6: u64 = 6 << 56;

    /// The key of an IPv4 service; `vip` and `port` as they stand in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn v4(vip: [u8; 4], port: [u8; 2], protocol: u8) -> Self {
        let vip = u32::from_ne_bytes(vip) as u64;
        Self([Self::V4 | Self::port_and_protocol(port, protocol) | vip, 0, 0])
    }

    /// The key of an IPv6 service; `vip` and `port` as they stand in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn v6(vip: [u8; 16], port: [u8; 2], protocol: u8) -> Self {
        let [high, low] = halves(vip);
        Self([Self::V6 | Self::port_and_protocol(port, protocol), high, low])
    }

    /// The VIP; IPv4 as an IPv4-mapped address.
    #[must_use]
    pub const fn vip(self) -> [u8; 16] {
        let Self([first, high, low]) = self;
        if first >> 56 == 4 {
            let [a, b, c, d, ..] = first.to_ne_bytes();
            return map_ipv4([a, b, c, d]);
        }
        whole([high, low])
    }

    /// Whether both name the same service; word by word, for `==` becomes a call that compares bytes in the kernel.
    #[inline(always)]
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        let Self([first, second, third]) = self;
        let Self([other_first, other_second, other_third]) = other;
        // The first word of an IPv4 service says all.
        first == other_first && (first >> 56 == 4 || second == other_second && third == other_third)
    }

    #[inline(always)]
    const fn port_and_protocol(port: [u8; 2], protocol: u8) -> u64 {
        (u16::from_ne_bytes(port) as u64) << 32 | (protocol as u64) << 48
    }
}

/// Bits of a prefix that is one address, in the trie of VIPs.
pub const WHOLE_ADDRESS: u32 = 128;

/// An IPv6 address as two words in the byte order of memory.
#[inline(always)]
#[must_use]
pub const fn halves(address: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_ne_bytes(address);
    #[expect(clippy::cast_possible_truncation, reason = "the halves are cut on purpose")]
    let (first, second) = (whole as u64, (whole >> 64) as u64);
    if cfg!(target_endian = "little") { [first, second] } else { [second, first] }
}

/// The IPv6 address of two words in the byte order of memory.
#[inline(always)]
#[must_use]
pub const fn whole([first, second]: [u64; 2]) -> [u8; 16] {
    let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    (low as u128 | (high as u128) << 64).to_ne_bytes()
}

/// An element of the service table: one cache line. An entry whose key is zero is free.
///
/// `id`, `base` and `size` do not change while the key stands, so that a reader never sees a half-changed service.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Which service this is.
    pub key: ServiceKey,
    /// The id by which flow records and backends name the service; 0 is nobody.
    pub id: u32,
    /// The first slot of the service in the slot map.
    pub base: u32,
    /// How many slots the service owns.
    pub size: u32,
    /// What is not plain about the service, one bit each: its packets take the whole way.
    pub flags: u32,
    /// Reserved, zero.
    pub reserved: [u32; 6],
}

/// Places in the map of programs.
pub mod programs {
    /// The program that every packet may take.
    pub const WHOLE: u32 = 0;
    /// The program that gets what ours lets pass.
    pub const NEXT: u32 = 1;
}

/// How packets reach a backend.
pub mod forward {
    /// Direct return: the Ethernet addresses are rewritten, nothing else.
    pub const L2: u8 = 1;
    /// An outer IPv4 header (RFC 2003, RFC 4213).
    pub const IPV4: u8 = 2;
    /// An outer IPv6 header (RFC 2473).
    pub const IPV6: u8 = 3;
}

/// An element of the backend array: one cache line, everything that forwarding needs.
///
/// The agent writes it word by word; each field that changes alone while traffic flows lies within one aligned word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendEntry {
    /// Where the frame goes next: the backend itself or a router on the way.
    pub destination_mac: [u8; 6],
    /// The egress interface's own address.
    pub source_mac: [u8; 6],
    /// One of [`forward`]; 0 while nothing is written here.
    pub forward: u8,
    /// 1 while flows may stay on this backend; 0 once it is dead.
    pub alive: u8,
    /// Reserved, zero.
    pub reserved: [u8; 2],
    /// The egress interface.
    pub ifindex: u32,
    /// The longest packet that the way to the backend takes, in bytes from its own IP header on: the egress's MTU less what
    /// is put in front. 0 while there is no way.
    pub room: u16,
    /// The port at the backend, in host order.
    pub port: u16,
    /// The service that this backend stands behind.
    pub service: u32,
    /// Ones' complement sum of the constant words of the outer IPv4 header, not folded.
    pub checksum: u32,
    /// The outer source address; IPv4 as an IPv4-mapped address (RFC 4291 §2.5.5.2).
    pub source: [u8; 16],
    /// The backend's address; IPv4 as an IPv4-mapped address.
    pub address: [u8; 16],
}

impl BackendEntry {
    /// The addresses of a frame to this backend, as the words that they fill: its first 8 bytes, and 4 more.
    #[inline(always)]
    #[must_use]
    pub const fn macs(&self) -> (u64, u32) {
        let [a, b, c, d, e, f] = self.destination_mac;
        let [g, h, i, j, k, l] = self.source_mac;
        (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u32::from_ne_bytes([i, j, k, l]))
    }
}

/// What was sent to a backend, per CPU. The only counters of a packet that was sent: the outcomes that say so are sums
/// over all backends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounters {
    /// Packets that left by the interface that they came in by.
    pub transmitted: u64,
    /// Packets that left by another interface.
    pub redirected: u64,
    /// Bytes of these packets as they came in, from the IP header on.
    pub bytes: u64,
    /// TCP SYNs, and UDP flows that were recorded for the first time.
    pub new_flows: u64,
}

impl BackendCounters {
    /// Packets forwarded.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.transmitted.wrapping_add(self.redirected)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            transmitted: self.transmitted.wrapping_add(other.transmitted),
            redirected: self.redirected.wrapping_add(other.redirected),
            bytes: self.bytes.wrapping_add(other.bytes),
            new_flows: self.new_flows.wrapping_add(other.new_flows),
        }
    }

    /// What was counted since an earlier reading.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            transmitted: self.transmitted.wrapping_sub(earlier.transmitted),
            redirected: self.redirected.wrapping_sub(earlier.redirected),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
            new_flows: self.new_flows.wrapping_sub(earlier.new_flows),
        }
    }
}

/// Where the parts of the `TABLES` map begin, in bytes, and how many elements each has.
///
/// The map has one element, so that one lookup serves all that a packet needs: the services' places, then the backends,
/// then the slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Places of the service table; they begin at 0.
    pub places: u32,
    /// Elements of the backend array.
    pub backends: u32,
    /// Slots.
    pub slots: u32,
}

impl Layout {
    /// Most bytes of the map: the verifier follows offsets up to 2^29 (`BPF_MAX_VAR_OFF`, include/linux/bpf_verifier.h).
    pub const LARGEST: u64 = (1 << 29) - 1;

    /// Where the backends begin.
    #[must_use]
    pub const fn backends_at(&self) -> u64 {
        self.places as u64 * size_of::<ServiceEntry>() as u64
    }

    /// Where the slots begin.
    #[must_use]
    pub const fn slots_at(&self) -> u64 {
        self.backends_at() + self.backends as u64 * size_of::<BackendEntry>() as u64
    }

    /// Bytes of the whole map.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.slots_at() + self.slots as u64 * 8
    }
}

/// Which agent's maps these are: the single element of the `META` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// [`ABI_VERSION`] of the agent that made the maps. This field and the size of this type never change.
    pub abi: u32,
    /// [`Layout::places`].
    pub places: u32,
    /// The seed of the flow hash, so that the next agent goes on with it.
    pub seed: u64,
}

const _: () = {
    assert!(size_of::<ServiceKey>() == 24);
    assert!(size_of::<ServiceEntry>() == 64 && align_of::<ServiceEntry>() == 8);
    assert!(size_of::<BackendEntry>() == 64 && align_of::<BackendEntry>() == 8);
    assert!(size_of::<BackendCounters>() == 32);
    assert!(size_of::<Meta>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_both_families_never_share_a_key() {
        let v4 = ServiceKey::v4([0, 0, 0, 0], [0, 80], protocol::TCP);
        let v6 = ServiceKey::v6([0; 16], [0, 80], protocol::TCP);
        assert_ne!(v4, v6);
        assert_ne!(v4, ServiceKey::default());
    }

    #[test]
    fn halves_keep_the_order_of_memory() {
        let address: [u8; 16] = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let [first, second] = halves(address);
        assert_eq!(first.to_ne_bytes(), address[..8]);
        assert_eq!(second.to_ne_bytes(), address[8..]);
        assert_eq!(whole([first, second]), address);
    }
}
