//! What the programs use of `aya-ebpf`, where they run in a process: maps, helpers and contexts of the same names and
//! types, on memory that whoever plays the kernel provides ([`machine`]).
//!
//! Architecture invariant: nothing of the balancer is known here. Programs are run by one thread.
#![expect(unsafe_code, reason = "it gives to programs what the kernel gives, raw addresses")]

pub mod helpers;
pub mod machine;
pub mod maps;

/// Attributes of maps and programs.
pub mod macros {
    pub use host_ebpf_macros::{map, xdp};
}

/// Types and constants of the kernel (include/uapi/linux/bpf.h).
pub mod bindings {
    /// A map that can be mapped into memory.
    pub const BPF_F_MMAPABLE: u32 = 1 << 10;
    /// A map whose elements are allocated as they come.
    pub const BPF_F_NO_PREALLOC: u32 = 1;
    /// An element is made, or replaced.
    pub const BPF_ANY: u32 = 0;
    /// An element is made; there must be none.
    pub const BPF_NOEXIST: u32 = 1;

    /// What becomes of a packet.
    pub mod xdp_action {
        /// It is dropped.
        pub const XDP_DROP: u32 = 1;
        /// It goes on into the host.
        pub const XDP_PASS: u32 = 2;
        /// It leaves by the interface it came in by.
        pub const XDP_TX: u32 = 3;
        /// It leaves by another interface.
        pub const XDP_REDIRECT: u32 = 4;
    }

    /// A packet as a program of XDP sees it. Addresses have 32 bits, as in the kernel's own.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default)]
    pub struct xdp_md {
        /// Where the packet begins.
        pub data: u32,
        /// Where it ends.
        pub data_end: u32,
        /// Where its metadata begin.
        pub data_meta: u32,
        /// The interface that it came in by.
        pub ingress_ifindex: u32,
        /// The queue of that.
        pub rx_queue_index: u32,
        /// The interface that it leaves by.
        pub egress_ifindex: u32,
    }
}

/// Contexts of programs.
pub mod programs {
    use crate::{EbpfContext, bindings::xdp_md};
    use core::ffi::c_void;

    /// The context of a program of XDP.
    #[derive(Debug)]
    pub struct XdpContext {
        /// The packet.
        pub ctx: *mut xdp_md,
    }

    impl XdpContext {
        /// Around the packet.
        #[must_use]
        pub const fn new(ctx: *mut xdp_md) -> Self {
            Self { ctx }
        }
    }

    impl EbpfContext for XdpContext {
        fn as_ptr(&self) -> *mut c_void {
            self.ctx.cast()
        }
    }
}

/// What all contexts have.
pub trait EbpfContext {
    /// The address of the kernel's.
    fn as_ptr(&self) -> *mut core::ffi::c_void;
}

/// A value that is set at load time.
#[repr(transparent)]
#[derive(Debug)]
pub struct Global<T>(core::cell::UnsafeCell<T>);

// SAFETY: programs are run by one thread, and values are stored between their runs.
unsafe impl<T> Sync for Global<T> {}

impl<T: Copy> Global<T> {
    /// The value, unless another is stored.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// The value.
    pub fn load(&self) -> T {
        // SAFETY: nobody writes meanwhile: see above.
        unsafe { *self.0.get() }
    }

    /// Sets the value, as a loader does.
    pub fn store(&self, value: T) {
        // SAFETY: nobody reads meanwhile: see above.
        unsafe { *self.0.get() = value };
    }
}
