//! VLAN tags: taken off before anything else looks at the frame, and put back last, so that nothing between knows them.
//!
//! A frame that leaves by the interface that it came in by, or goes on into the host, has the tags it came with. One
//! that is redirected has none: the other interface is another link, whose tags, if it has any, are not these.

use aya_ebpf::programs::XdpContext;
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6, Macs, PROVIDER_VLAN, Tagged, VLAN},
    packet::Packet,
    verifier::forget,
};

/// Bytes of a tag.
const TAG: usize = size_of::<u32>();

/// Where the first tag stands, behind the addresses.
const FIRST: usize = size_of::<Macs>();

/// The tags of a frame, as they stood on the wire: type, priority, number.
#[derive(Clone, Copy)]
pub(crate) struct Tags {
    // verifier: no enum, so that the number can be forgotten.
    count: usize,
    first: u32,
    second: u32,
}

impl Tags {
    const NONE: Self = Self { count: 0, first: 0, second: 0 };
}

/// Takes off up to two tags in front of an IP packet. Any other frame stays as it is.
#[inline(always)]
pub(crate) fn take_off(context: &XdpContext) -> Tags {
    let packet = Packet::new(context);
    let length = packet.linear_length();
    let tags = read(&packet).unwrap_or(Tags::NONE);
    let done = match tags.count {
        1 => move_macs(packet, 4),
        2 => move_macs(packet, 8),
        _ => Some(packet),
    };
    // Nothing can be wrong: what remains was there.
    let tags = done.map_or(Tags::NONE, |_| tags);
    Tags { count: forget(tags.count, length), ..tags }
}

/// Puts the tags in front of the packet. Where they were taken off there is room, unless an outer header took it.
#[inline(always)]
pub(crate) fn put_back(context: &XdpContext, tags: Tags) -> Option<()> {
    let packet = Packet::new(context);
    match tags.count {
        1 => move_macs(packet, -4)?.write(FIRST, tags.first),
        2 => {
            let mut packet = move_macs(packet, -8)?;
            packet.write(FIRST, tags.first)?;
            packet.write(FIRST + TAG, tags.second)
        }
        _ => Some(()),
    }
}

#[inline(always)]
fn read(packet: &Packet) -> Option<Tags> {
    let frame: &Tagged = packet.view(0)?;
    if !is_tag(packet.view::<Ethernet>(0)?.kind) {
        return None;
    }
    let first = frame.tag;
    if is_ip(frame.kind) {
        return Some(Tags { count: 1, first, second: 0 });
    }
    // The second tag begins with what the first says to follow.
    let inner: &Tagged = packet.view(TAG)?;
    (is_tag(frame.kind) && is_ip(inner.kind)).then_some(Tags { count: 2, first, second: inner.tag })
}

/// Moves the start of the frame, and the addresses with it.
#[inline(always)]
fn move_macs(packet: Packet, bytes: i32) -> Option<Packet> {
    let (first, rest) = (packet.read::<u64>(0)?, packet.read::<u32>(8)?);
    let mut packet = packet.move_head(bytes)?;
    packet.write(0, Macs(first, rest))?;
    Some(packet)
}

#[inline(always)]
const fn is_tag(kind: u16) -> bool {
    matches!(kind, VLAN | PROVIDER_VLAN)
}

#[inline(always)]
const fn is_ip(kind: u16) -> bool {
    matches!(kind, IPV4 | IPV6)
}
