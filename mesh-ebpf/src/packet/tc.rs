//! A packet in the kernel's stack, as programs of tc see it.

use super::{Context, Packet};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{bpf_skb_adjust_room, bpf_skb_pull_data},
    programs::TcContext,
};

impl Context for __sk_buff {
    #[inline(always)]
    fn bounds(&self) -> [u32; 2] {
        [self.data, self.data_end]
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        u64::from(self.len)
    }
}

/// A change of the IP version that [`Packet::cut_behind_ethernet`] brings about.
#[derive(Clone, Copy)]
pub enum Change {
    /// None.
    None,
    /// From IPv6 to IPv4.
    ToIpv4,
    /// From IPv4 to IPv6.
    ToIpv6,
}

impl Packet<__sk_buff> {
    /// The packet of a program's context.
    #[inline(always)]
    #[must_use]
    pub fn of_tc(context: &TcContext) -> Self {
        Self { context: context.as_ptr().cast() }
    }

    /// Whether the frame had a VLAN tag, which the stack took off before.
    #[inline(always)]
    #[must_use]
    pub fn was_tagged(&self) -> bool {
        // SAFETY: the context outlives the program's run, and `Packet` lives no longer.
        unsafe { (*self.context).vlan_present != 0 }
    }

    /// Brings the first `bytes` of the packet, or all of a shorter one, into its linear part. Drivers leave less there.
    #[inline(always)]
    #[must_use]
    pub fn pulled(self, bytes: u32) -> Self {
        // SAFETY: as in `was_tagged`.
        let wanted = unsafe { (*self.context).len }.min(bytes);
        if self.linear_length() < wanted as usize {
            // What cannot be pulled is not there for whoever asks for it.
            // SAFETY: `self` is consumed, so no address from before is left.
            unsafe { bpf_skb_pull_data(self.context, wanted) };
        }
        self
    }

    /// Removes `bytes` behind the Ethernet header. Needs kernel 6.3 where the IP version changes.
    #[inline(always)]
    #[must_use]
    pub fn cut_behind_ethernet(self, bytes: u16, change: Change) -> Option<Self> {
        let change = match change {
            Change::None => 0,
            Change::ToIpv4 => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
            Change::ToIpv6 => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        };
        // Segments that the stack has merged are as long inside as before.
        let flags = u64::from(change | BPF_F_ADJ_ROOM_FIXED_GSO);
        // SAFETY: `self` is consumed, so no address from before is left.
        let cut = unsafe { bpf_skb_adjust_room(self.context, -i32::from(bytes), BPF_ADJ_ROOM_MAC, flags) };
        (cut == 0).then_some(self)
    }
}
