//! The layout of the maps, as both sides read and write it.
//!
//! Every type is `repr(C)`, made of integers and byte arrays, with its padding spelled out and its size asserted.
//! Elements of 64 bytes fill one cache line each, since memory-mapped arrays begin at a page; the types themselves are
//! aligned to 8 bytes only: the compiler would believe in a larger alignment on the kernel program's stack, too, which
//! has 8.
//! Zeroed memory means "never written": backend id 0, service id 0 and a zero key name nobody.

use crate::{
    connection::Way, encap::map_ipv4, filter, flow::Signs, fragment::FragmentKey, policy::Policy,
    table::Bucket, tuple::Tuple,
};
use core::mem::{align_of, size_of};

/// Changes whenever a type here, a map's shape or the meaning of a field changes.
pub const ABI_VERSION: u32 = 8;

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
/// Addresses and ports keep the byte order of the wire. A *wide* service, which owns more than one port of one address,
/// has a key that no packet makes ([`Self::wide4`], [`Self::wide6`]): packets find it by [`rule_key`].
///
/// ```text
///         63 … 56      55 … 48   47 … 32      31 … 0
/// word 0: 4 or 6       protocol  port         IPv4 VIP, or 0
///         0x14, 0x16   protocol  first port   IPv4 VIP, or prefix length << 16 | last port
/// word 1: 0, or the first half of the IPv6 VIP; wide IPv4: prefix length << 16 | last port
/// word 2: 0, or the second half of the IPv6 VIP
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey(pub [u64; 3]);

#[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words on purpose")]
impl ServiceKey {
    const V4: u64 = 4 << 56;
    const V6: u64 = 6 << 56;
    const WIDE: u64 = 0x10 << 56;

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

    /// The key of a wide IPv4 service; `vip` as it stands in packets, `length` that of its prefix.
    #[must_use]
    pub const fn wide4(vip: [u8; 4], length: u8, ports: [u16; 2], protocol: u8) -> Self {
        let [first, last] = ports;
        let Self([key, ..]) = Self::v4(vip, first.to_be_bytes(), protocol);
        Self([key | Self::WIDE, Self::length_and_last(length, last), 0])
    }

    /// The key of a wide IPv6 service; `vip` as it stands in packets, `length` that of its prefix.
    #[must_use]
    pub const fn wide6(vip: [u8; 16], length: u8, ports: [u16; 2], protocol: u8) -> Self {
        let [first, last] = ports;
        let Self([key, high, low]) = Self::v6(vip, first.to_be_bytes(), protocol);
        Self([key | Self::WIDE | Self::length_and_last(length, last), high, low])
    }

    const fn length_and_last(length: u8, last: u16) -> u64 {
        (length as u64) << 16 | last as u64
    }

    /// Whether the service owns more than one port of one address.
    #[inline(always)]
    #[must_use]
    pub const fn is_wide(self) -> bool {
        self.0[0] & Self::WIDE != 0
    }

    /// The IP protocol number; 0 for a wide service of any protocol.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        (self.0[0] >> 48) as u8
    }

    /// The port, of a wide service the first, in wire order.
    #[inline(always)]
    #[must_use]
    pub const fn port(self) -> [u8; 2] {
        ((self.0[0] >> 32) as u16).to_ne_bytes()
    }

    /// The same with port 0.
    #[inline(always)]
    #[must_use]
    pub const fn without_port(self) -> Self {
        let Self([first, second, third]) = self;
        Self([first & !(0xffff << 32), second, third])
    }

    /// The VIP, of a wide service the first, in two words; IPv4 as an IPv4-mapped address.
    #[inline(always)]
    #[must_use]
    pub const fn address(self) -> [u64; 2] {
        let Self([first, second, third]) = self;
        if self.is_v4() { halves(map_ipv4((first as u32).to_ne_bytes())) } else { [second, third] }
    }

    #[inline(always)]
    const fn is_v4(self) -> bool {
        self.0[0] >> 56 & 0xf == 4
    }

    /// What a wide service owns; `None` for a service of one port of one address.
    #[must_use]
    pub const fn extent(self) -> Option<Extent> {
        let Self([first, second, _]) = self;
        if !self.is_wide() {
            return None;
        }
        let v4 = self.is_v4();
        let rest = if v4 { second } else { first };
        let length = (rest >> 16) as u8;
        Some(Extent {
            address: whole(self.address()),
            length: if v4 { length.saturating_add(96) } else { length },
            first: u16::from_be_bytes(self.port()),
            last: rest as u16,
            protocol: self.protocol(),
        })
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

/// What a wide service owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first address; IPv4 as an IPv4-mapped address.
    pub address: [u8; 16],
    /// The length of the prefix, of an IPv4-mapped address 96 to 128.
    pub length: u8,
    /// The first port, in host order.
    pub first: u16,
    /// The last port.
    pub last: u16,
    /// The IP protocol number; 0 for every protocol.
    pub protocol: u8,
}

/// The class of a protocol in [`rule_key`]: TCP and UDP have one each, all others, which have no ports here, share 0.
#[inline(always)]
#[must_use]
pub const fn class(number: u8) -> u8 {
    if matches!(number, protocol::TCP | protocol::UDP) { number } else { 0 }
}

/// Bits of a rule's key before those of the port.
pub const RULE_HEAD: u32 = 48;

/// The data of a rule's key, as it stands in memory: group (big endian), [`class`], 0, port in wire order.
#[inline(always)]
#[must_use]
pub const fn rule_key(group: u32, class: u8, port: [u8; 2]) -> u64 {
    let [a, b, c, d] = group.to_be_bytes();
    let [high, low] = port;
    u64::from_ne_bytes([a, b, c, d, class, 0, high, low])
}

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
/// `scheduler`, `max_flows` and `reject` may: each lies within one aligned word, and any of the old makes sense with any of
/// the new; so do `flags` and `policy`, which share one.
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
    /// How new flows find their slots: one of [`crate::schedule`].
    pub scheduler: u32,
    /// What is not plain about the service: bits of [`flag`]. Its packets take the whole way for any but [`flag::GUARDED`].
    pub flags: u32,
    /// Whom it serves, if it is guarded: the place of its policy, counted from 1; 0: nobody yet.
    pub policy: u32,
    /// Flows that there may be at a time; 0: any number.
    pub max_flows: u32,
    /// 1 if senders are told where there is no backend.
    pub reject: u32,
    /// Reserved, zero.
    pub reserved: [u32; 2],
}

/// Places in the map of programs.
pub mod programs {
    /// Reads the headers of every packet that is not plain, and finds its service.
    pub const WHOLE: u32 = 0;
    /// The program that gets what ours lets pass.
    pub const NEXT: u32 = 1;
    /// Finds the backend that a QUIC connection id names.
    pub const QUIC: u32 = 2;
    /// Finds the backend by slot, flow record or scheduler.
    pub const CHOOSE: u32 = 3;
    /// Sends the packet to its backend.
    pub const DELIVER: u32 = 4;
    /// Tells a sender that there is no backend.
    pub const REJECT: u32 = 5;
    /// Finds the connection of a packet that is to be translated.
    pub const NAT: u32 = 6;
    /// Begins a connection.
    pub const CONNECT: u32 = 7;
    /// Finds the connection of a packet that a backend answers with.
    pub const REPLY: u32 = 8;
    /// Translates what is more than a whole packet of TCP or UDP within a family.
    pub const TRANSLATE: u32 = 9;
    /// Answers SYNs by cookies, and takes these back.
    pub const COOKIE: u32 = 10;
    /// Makes the numbers of a cookie and those of a backend one connection.
    pub const SPLICE: u32 = 11;
    /// How many places there are.
    pub const COUNT: u32 = 12;
}

/// What the programs of the whole way know of the packet that a CPU is at: each goes on where the one before ended. A part
/// of the ABI, because the next agent replaces them one by one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Journey {
    /// The packet's service, as it was when the packet came.
    pub service: ServiceEntry,
    /// Whom the packet is for.
    pub destination: ServiceKey,
    /// The client's address; IPv4 as an IPv4-mapped address.
    pub client: [u64; 2],
    /// The hash of the flow.
    pub hash: u64,
    /// What its slot follows from, unless one is picked.
    pub slot_hash: u64,
    /// Which packet this is the first fragment of, if it is one.
    pub fragment: FragmentKey,
    /// The tags that were taken off, as they stood on the wire.
    pub tags: [u32; 2],
    /// The backend.
    pub backend: u32,
    /// How many tags were taken off.
    pub tag_count: u16,
    /// The client's port, in the byte order of the wire.
    pub port: u16,
    /// Bytes from the IP header on, as the header says.
    pub length: u16,
    /// Bytes from the IP header on that the headers take.
    pub headers: u16,
    /// Of an ICMP error, bytes from the IP header to what the packet that it quotes carries; else 0.
    pub quoted: u16,
    /// What the packet shows of its flow.
    pub signs: Signs,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Its family, as an outer header names it: one of [`protocol`].
    pub family: u8,
    /// 1 if it is the first fragment of a packet.
    pub first: u8,
    /// 1 if a flow begins with it; of an answer, if it refuses one.
    pub opened: u8,
    /// 1 if its sender is told where there is no backend.
    pub rejects: u8,
    /// 1 if it is an answer of a backend, translated for the client.
    pub is_reply: u8,
    /// 1 if nobody knows its connection.
    pub unknown: u8,
    /// 1 if its client has come back with a cookie, and its connection begins.
    pub proxied: u8,
    /// Where the first fragment ends, if it is one: bytes of the packet that is in fragments.
    pub edge: u16,
    /// Bytes of its IP header, options and extension headers included.
    pub ip_headers: u16,
    /// Of a proxied one, the cookie; of an ICMP error, what is taken from the number that the segment that it quotes has.
    pub number: u32,
    /// What becomes of its tuple, if it is translated.
    pub to: Tuple,
    /// Where it goes then.
    pub way: Way,
}

/// What can be special about a service.
pub mod flag {
    /// Packets go by their QUIC connection id, as far as it tells.
    pub const QUIC: u32 = 1;
    /// Slots are found otherwise than by the hash of client and port.
    pub const SCHEDULER: u32 = 2;
    /// There is a limit to flows.
    pub const CAPPED: u32 = 4;
    /// Not every client is served: there is a policy.
    pub const GUARDED: u32 = 8;
    /// Packets are translated, in both directions.
    pub const NAT: u32 = 1 << 8;
}

/// How packets reach a backend.
pub mod forward {
    /// Direct return: the Ethernet addresses are rewritten, nothing else.
    pub const L2: u8 = 1;
    /// An outer IPv4 header (RFC 2003, RFC 4213).
    pub const IPV4: u8 = 2;
    /// An outer IPv6 header (RFC 2473).
    pub const IPV6: u8 = 3;
    /// As [`IPV4`], from a source address that differs between flows.
    pub const SPREAD_IPV4: u8 = 4;
    /// As [`IPV6`], from a source address that differs between flows.
    pub const SPREAD_IPV6: u8 = 5;
    /// Outer IPv4 and UDP headers (draft-ietf-intarea-gue-09 §4, variant 1).
    pub const GUE_IPV4: u8 = 6;
    /// Outer IPv6 and UDP headers.
    pub const GUE_IPV6: u8 = 7;
    /// Outer IPv4, UDP and Geneve headers (RFC 8926).
    pub const GENEVE_IPV4: u8 = 8;
    /// Outer IPv6, UDP and Geneve headers.
    pub const GENEVE_IPV6: u8 = 9;
    /// Translated to an IPv4 address (RFC 2663 §4.1.2, between the families RFC 7915).
    pub const NAT_IPV4: u8 = 10;
    /// Translated to an IPv6 address.
    pub const NAT_IPV6: u8 = 11;
}

/// What the decapsulator's map of UDP ports says of a port.
pub mod tunnel {
    /// GUE, variant 1.
    pub const GUE: u32 = 1;
    /// Geneve.
    pub const GENEVE: u32 = 2;
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
    /// How many of the lowest bits of the outer source address come from the flow's hash.
    pub spread: u8,
    /// The weight, as [`crate::schedule::compress`] keeps it; 0 where the service's scheduler does not ask.
    pub weight: u8,
    /// The egress interface.
    pub ifindex: u32,
    /// The longest packet that the way to the backend takes, in bytes from its own IP header on: the egress's MTU less what
    /// is put in front. 0 while there is no way.
    pub room: u16,
    /// In host order: the UDP port at which the backend unwraps, if packets are wrapped in UDP; else the port at the
    /// backend, 0: that of the packet.
    pub port: u16,
    /// The service that this backend stands behind.
    pub service: u32,
    /// Ones' complement sum of the constant words of the outer IPv4 header.
    pub checksum: u16,
    /// 1 if senders of IPv4 packets that are too long are told even if these may be fragmented.
    pub tell: u8,
    /// 1 if the backend is this host itself: translated packets come from `source`, wherever others come from.
    pub is_here: u8,
    /// The outer source address, or the prefix of it; IPv4 as an IPv4-mapped address (RFC 4291 §2.5.5.2).
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
    /// Translated answers that left by the interface that they came in by.
    pub replies_transmitted: u64,
    /// Translated answers that left by another interface.
    pub replies_redirected: u64,
    /// Bytes of these answers as they came in, from the IP header on.
    pub reply_bytes: u64,
    /// Connections that the backend refused by a reset.
    pub refused: u64,
}

impl From<[u64; Self::WORDS]> for BackendCounters {
    fn from(words: [u64; Self::WORDS]) -> Self {
        let [transmitted, redirected, bytes, new_flows, ..] = words;
        let [.., replies_transmitted, replies_redirected, reply_bytes, refused] = words;
        Self {
            transmitted,
            redirected,
            bytes,
            new_flows,
            replies_transmitted,
            replies_redirected,
            reply_bytes,
            refused,
        }
    }
}

impl BackendCounters {
    /// How many words it has.
    pub const WORDS: usize = 8;

    /// Packets forwarded.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.transmitted.wrapping_add(self.redirected)
    }

    /// Answers translated.
    #[must_use]
    pub const fn replies(&self) -> u64 {
        self.replies_transmitted.wrapping_add(self.replies_redirected)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.each(other, u64::wrapping_add)
    }

    /// What was counted since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.each(earlier, u64::wrapping_sub)
    }

    fn each(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            transmitted: of(self.transmitted, other.transmitted),
            redirected: of(self.redirected, other.redirected),
            bytes: of(self.bytes, other.bytes),
            new_flows: of(self.new_flows, other.new_flows),
            replies_transmitted: of(self.replies_transmitted, other.replies_transmitted),
            replies_redirected: of(self.replies_redirected, other.replies_redirected),
            reply_bytes: of(self.reply_bytes, other.reply_bytes),
            refused: of(self.refused, other.refused),
        }
    }
}

/// Where the parts of the `TABLES` map begin, in bytes, and how many elements each has.
///
/// The map has one element, so that one lookup serves all that a packet needs: the services' places, then the backends,
/// then the buckets of the flow table, then its filter, then the slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Places of the service table; they begin at 0.
    pub places: u32,
    /// Elements of the backend array.
    pub backends: u32,
    /// Buckets of the flow table.
    pub buckets: u32,
    /// Words of each generation of the flow table's filter.
    pub filter: u32,
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

    /// Where the flow table begins.
    #[must_use]
    pub const fn flows_at(&self) -> u64 {
        self.backends_at() + self.backends as u64 * size_of::<BackendEntry>() as u64
    }

    /// Where the head of the flow table's filter begins.
    #[must_use]
    pub const fn filter_at(&self) -> u64 {
        self.flows_at() + self.buckets as u64 * size_of::<Bucket>() as u64
    }

    /// Where the first generation of the flow table's filter begins, which the second follows.
    #[must_use]
    pub const fn filter_words_at(&self) -> u64 {
        self.filter_at() + filter::HEAD as u64 * 8
    }

    /// Where the slots begin.
    #[must_use]
    pub const fn slots_at(&self) -> u64 {
        self.filter_words_at() + self.filter as u64 * 2 * 8
    }

    /// Bytes of the whole map.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.slots_at() + self.slots as u64 * 8
    }
}

/// Where the parts of the `POLICIES` map begin, in bytes, and how many elements each has. Each part has two halves, of
/// which packets read one: the policies of all services, by their ids, then all boundaries, then all indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyLayout {
    /// Policies of each half: one for each id of a service.
    pub policies: u32,
    /// Boundaries of each half.
    pub boundaries: u32,
    /// Elements of the indexes of each half.
    pub index: u32,
}

impl PolicyLayout {
    /// Where the boundaries begin.
    #[must_use]
    pub const fn boundaries_at(&self) -> u64 {
        2 * self.policies as u64 * size_of::<Policy>() as u64
    }

    /// Where the indexes begin.
    #[must_use]
    pub const fn index_at(&self) -> u64 {
        self.boundaries_at() + 2 * self.boundaries as u64 * 16
    }

    /// Bytes of the whole map.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.index_at() + 2 * self.index as u64 * 4
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
    assert!(size_of::<BackendCounters>() == 64);
    assert!(size_of::<Meta>() == 16);
    assert!(size_of::<Journey>() == 272);
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
    fn wide_services_tell_what_they_own() {
        let v4 = ServiceKey::wide4([203, 0, 113, 0], 24, [8000, 8100], protocol::TCP);
        let address = map_ipv4([203, 0, 113, 0]);
        let owned = Extent { address, length: 120, first: 8000, last: 8100, protocol: protocol::TCP };
        assert_eq!((v4.is_wide(), v4.extent()), (true, Some(owned)));
        let prefix = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let v6 = ServiceKey::wide6(prefix, 64, [0, 65535], 0);
        let owned = Extent { address: prefix, length: 64, first: 0, last: 65535, protocol: 0 };
        assert_eq!((v6.is_wide(), v6.extent()), (true, Some(owned)));
    }

    #[test]
    fn no_packet_makes_the_key_of_a_wide_service() {
        let [exact, wide] = [
            ServiceKey::v4([192, 0, 2, 1], [0, 80], protocol::TCP),
            ServiceKey::wide4([192, 0, 2, 1], 32, [80, 80], protocol::TCP),
        ];
        assert!(!exact.is(wide) && !wide.is(exact) && exact.extent().is_none());
        assert!(wide.is(wide) && !wide.is(ServiceKey::wide4([192, 0, 2, 1], 32, [80, 81], protocol::TCP)));
        let v6 = |ports| ServiceKey::wide6([1; 16], 128, ports, protocol::UDP);
        assert!(!v6([1, 2]).is(v6([1, 3])) && !v6([1, 1]).is(ServiceKey::v6([1; 16], [0, 1], protocol::UDP)));
    }

    #[test]
    fn an_exact_key_tells_its_parts() {
        let v4 = ServiceKey::v4([192, 0, 2, 1], [0, 80], protocol::UDP);
        assert_eq!((v4.protocol(), v4.port(), v4.is_wide()), (17, [0, 80], false));
        assert_eq!(whole(v4.address()), map_ipv4([192, 0, 2, 1]));
        assert_eq!(v4.without_port(), ServiceKey::v4([192, 0, 2, 1], [0, 0], protocol::UDP));
        let v6 = ServiceKey::v6([7; 16], [1, 2], protocol::TCP);
        assert_eq!((v6.protocol(), v6.port(), whole(v6.address())), (6, [1, 2], [7; 16]));
    }

    #[test]
    fn rules_are_told_by_their_bits_from_the_first_on() {
        assert_eq!(rule_key(0x0102_0304, 17, [5, 6]).to_ne_bytes(), [1, 2, 3, 4, 17, 0, 5, 6]);
        assert_eq!([6, 17, 132, 0].map(class), [6, 17, 0, 0]);
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
