//! VLAN tags: taken off before anything else looks at the frame, and put back last, so that nothing between knows them.
//!
//! A frame that leaves by the interface that it came in by, or goes on into the host, has the tags it came with. One
//! that is redirected has none: the other interface is another link, whose tags, if it has any, are not these.

use aya_ebpf::programs::XdpContext;
use mesh_common::abi::Journey;
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6, Macs, PROVIDER_VLAN, Tagged, VLAN},
    packet::Packet,
};

/// Bytes of a tag.
const TAG: usize = size_of::<u32>();

/// Where the first tag stands, behind the addresses.
const FIRST: usize = size_of::<Macs>();

/// Takes off up to two tags in front of an IP packet, and notes them. Any other frame stays as it is.
#[inline(always)]
pub(crate) fn take_off(context: &XdpContext, journey: &mut Journey) {
    let packet = Packet::new(context);
    let (count, tags) = read(&packet).unwrap_or((0, [0; 2]));
    let moved = match count {
        1 => move_macs(packet, 4),
        2 => move_macs(packet, 8),
        _ => None,
    };
    // Where nothing was moved, there is nothing to put back.
    journey.tag_count = moved.map_or(0, |_| count);
    journey.tags = tags;
}

/// Puts the tags in front of the packet. Where they were taken off there is room, unless an outer header took it.
#[inline(always)]
pub(crate) fn put_back(context: &XdpContext, journey: &Journey) -> Option<()> {
    let packet = Packet::new(context);
    let [first, second] = journey.tags;
    match journey.tag_count {
        1 => move_macs(packet, -4)?.write(FIRST, first),
        2 => {
            let mut packet = move_macs(packet, -8)?;
            packet.write(FIRST, first)?;
            packet.write(FIRST + TAG, second)
        }
        _ => Some(()),
    }
}

/// How many tags there are, and which.
#[inline(always)]
fn read(packet: &Packet) -> Option<(u16, [u32; 2])> {
    let frame: &Tagged = packet.view(0)?;
    if !is_tag(packet.view::<Ethernet>(0)?.kind) {
        return None;
    }
    let first = frame.tag;
    if is_ip(frame.kind) {
        return Some((1, [first, 0]));
    }
    // The second tag begins with what the first says to follow.
    let inner: &Tagged = packet.view(TAG)?;
    (is_tag(frame.kind) && is_ip(inner.kind)).then_some((2, [first, inner.tag]))
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
