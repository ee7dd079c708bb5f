//! Restoring the packet before each run of a program under test, which may have wrapped it.

use crate::maps;
use mesh_ebpf::packet::Packet;

/// Gives the packet its length and headers; moves its head even where the length is right, so that every program
/// under test pays for the same.
#[inline(always)]
pub(crate) fn restore(packet: Packet) -> Option<()> {
    let traffic = maps::next_packet()?;
    // verifier: the length is bounded before it meets packet addresses.
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "frames are short")]
    let grown = packet.linear_length() as i32 - (traffic.length & 0xffff) as i32;
    let mut packet = packet.move_head(grown)?;
    let [first, second] = traffic.ethernet;
    packet.write(14, traffic.headers())?;
    packet.write(6, second)?;
    packet.write(0, first)
}
