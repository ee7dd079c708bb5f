//! The kernel's helpers, as far as programs call them.

pub use generated::bpf_xdp_get_buff_len;

/// Those that are made from the kernel's list.
#[expect(
    clippy::missing_safety_doc,
    reason = "as the kernel's: the context is the program's, and memory has the length"
)]
pub mod generated {
    use crate::{
        bindings::xdp_md,
        machine::{Frame, HEADROOM, LONGEST, jiffies},
    };
    use core::ffi::c_void;

    /// `-EINVAL` and `-EFAULT` (include/uapi/asm-generic/errno-base.h).
    const EINVAL: i64 = -22;
    const EFAULT: i64 = -14;

    /// Bytes of an Ethernet header, the least that a packet keeps.
    const ETHERNET: i64 = 14;

    /// Moves the beginning of the packet (`bpf_xdp_adjust_head`, net/core/filter.c).
    pub unsafe fn bpf_xdp_adjust_head(packet: *mut xdp_md, by: i32) -> i64 {
        // SAFETY: the caller's context is a frame's first member.
        let frame = unsafe { &mut *packet.cast::<Frame>() };
        let data = i64::from(frame.packet.data) + i64::from(by);
        if data < frame.first.into() || data > i64::from(frame.packet.data_end) - ETHERNET {
            return EINVAL;
        }
        frame.packet.data = u32::try_from(data).unwrap_or_default();
        frame.packet.data_meta = frame.packet.data;
        0
    }

    /// Moves the end of the packet (`bpf_xdp_adjust_tail`, net/core/filter.c).
    pub unsafe fn bpf_xdp_adjust_tail(packet: *mut xdp_md, by: i32) -> i64 {
        // SAFETY: the caller's context is a frame's first member.
        let frame = unsafe { &mut *packet.cast::<Frame>() };
        let end = i64::from(frame.packet.data_end) + i64::from(by);
        let last = i64::from(frame.first) + i64::try_from(HEADROOM + LONGEST).unwrap_or_default();
        if end > last || end < i64::from(frame.packet.data) + ETHERNET {
            return EINVAL;
        }
        frame.packet.data_end = u32::try_from(end).unwrap_or_default();
        0
    }

    /// Copies bytes of the packet (`bpf_xdp_load_bytes`, net/core/filter.c).
    pub unsafe fn bpf_xdp_load_bytes(packet: *mut xdp_md, offset: u32, to: *mut c_void, length: u32) -> i64 {
        // SAFETY: the caller's context.
        let packet = unsafe { *packet };
        if offset.checked_add(length).is_none_or(|end| end > packet.data_end - packet.data) {
            return EFAULT;
        }
        let from = (packet.data + offset) as usize as *const u8;
        // SAFETY: all of it is in the packet, and the caller's memory has the length.
        unsafe { to.cast::<u8>().copy_from_nonoverlapping(from, length as usize) };
        0
    }

    /// Bytes of the packet.
    pub unsafe fn bpf_xdp_get_buff_len(packet: *mut xdp_md) -> u64 {
        // SAFETY: the caller's context.
        let packet = unsafe { *packet };
        u64::from(packet.data_end - packet.data)
    }

    /// What the interface that the packet came in by takes (`bpf_xdp_check_mtu`, net/core/filter.c): as that of a test run,
    /// which is the loopback's.
    pub unsafe fn bpf_check_mtu(
        _packet: *mut c_void,
        _ifindex: u32,
        mtu: *mut u32,
        _by: i32,
        _flags: u64,
    ) -> i64 {
        const LOOPBACK: u32 = 65_536;
        // SAFETY: the caller's memory.
        unsafe { mtu.write(LOOPBACK) };
        0
    }

    /// The kernel's counter of jiffies.
    pub unsafe fn bpf_jiffies64() -> u64 {
        jiffies()
    }

    /// Nanoseconds since the start of the machine; programs show them only.
    pub unsafe fn bpf_ktime_get_ns() -> u64 {
        0
    }

    /// Chance is not the same twice: what depends on it cannot be compared.
    pub unsafe fn bpf_get_prandom_u32() -> u32 {
        0
    }

    /// Has the packet leave by another interface.
    pub unsafe fn bpf_redirect(_ifindex: u32, _flags: u64) -> i64 {
        crate::bindings::xdp_action::XDP_REDIRECT.into()
    }
}
