//! How outer headers come off: all that differs between XDP and tc.

use crate::IP;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use mesh_ebpf::{
    header::{Ethernet, IPV4},
    packet::{Change, Packet},
};

/// A packet whose outer headers can be removed.
pub(crate) trait Strip: Sized {
    /// Whether the frame had a VLAN tag that is no longer seen in it.
    fn was_tagged(&self) -> bool;
    /// Removes what stands between the Ethernet header, which is given, and `inner`, which is of this kind.
    fn strip(self, ethernet: Ethernet, kind: u16, inner: usize) -> Option<()>;
}

impl Strip for Packet<xdp_md> {
    #[inline(always)]
    fn was_tagged(&self) -> bool {
        // The tag is in the Ethernet header's place.
        false
    }

    #[inline(always)]
    fn strip(self, ethernet: Ethernet, kind: u16, inner: usize) -> Option<()> {
        let mut packet = self.move_head(i32::from(removed(inner)))?;
        packet.write(0, Ethernet { kind, ..ethernet })
    }
}

impl Strip for Packet<__sk_buff> {
    #[inline(always)]
    fn was_tagged(&self) -> bool {
        self.was_tagged()
    }

    #[inline(always)]
    fn strip(self, ethernet: Ethernet, kind: u16, inner: usize) -> Option<()> {
        let change = match kind {
            _ if kind == ethernet.kind => Change::None,
            IPV4 => Change::ToIpv4,
            _ => Change::ToIpv6,
        };
        // The kernel keeps the Ethernet header in front.
        let mut packet = self.cut_behind_ethernet(removed(inner), change)?;
        packet.write(0, Ethernet { kind, ..ethernet })
    }
}

/// Bytes in front of the inner packet, but for the Ethernet header.
#[inline(always)]
const fn removed(inner: usize) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "outer headers are short")]
    let removed = (inner - IP) as u16;
    removed
}
