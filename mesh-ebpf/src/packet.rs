//! A packet in the kernel: bounded reads and writes of whole headers.
//!
//! Architecture invariant: a header is read or written only behind a bounds check in the shape that the verifier
//! knows, and moving the head consumes the packet, so that an address computed before cannot be used after.
#![expect(unsafe_code, reason = "packet memory is reached through raw addresses")]

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{
        bpf_xdp_get_buff_len,
        generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes},
    },
    programs::XdpContext,
};

#[cfg(target_arch = "bpf")]
mod tc;

#[cfg(target_arch = "bpf")]
pub use tc::Change;

/// A header: plain bytes, each of which may have any value.
///
/// # Safety
///
/// The type has alignment 1 or is read unaligned, has no padding, and any bytes make a valid value of it.
pub unsafe trait Header: Copy {}

/// What the kernel calls a program with.
pub trait Context {
    /// Where the linear part of the packet begins and ends.
    fn bounds(&self) -> [u32; 2];
    /// Bytes of the whole packet.
    fn length(&self) -> u64;
}

impl Context for xdp_md {
    #[inline(always)]
    fn bounds(&self) -> [u32; 2] {
        [self.data, self.data_end]
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        // SAFETY: the helper only reads the context.
        unsafe { bpf_xdp_get_buff_len((&raw const *self).cast_mut()) }
    }
}

/// The frame that the program was called with, from the Ethernet header on: one of XDP, unless `C` says otherwise.
pub struct Packet<C = xdp_md> {
    context: *mut C,
}

impl<C: Context> Packet<C> {
    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context outlives the program's run, and `Packet` lives no longer.
        let [data, _] = unsafe { (*self.context).bounds() };
        data as usize
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as in `data`.
        let [_, end] = unsafe { (*self.context).bounds() };
        end as usize
    }

    /// Bytes in the linear part of the packet.
    #[inline(always)]
    #[must_use]
    pub fn linear_length(&self) -> usize {
        self.data_end() - self.data()
    }

    /// The address of `T` at `offset`, if all of it lies in the linear part of the packet.
    #[inline(always)]
    fn at<T: Header>(&self, offset: usize) -> Option<usize> {
        let start = self.data() + offset;
        (start + size_of::<T>() <= self.data_end()).then_some(start)
    }

    /// The header at `offset` bytes, in place: its fields are loaded one by one, as they are asked for.
    #[inline(always)]
    #[must_use]
    pub fn view<T: Header>(&self, offset: usize) -> Option<&T> {
        const { assert!(align_of::<T>() == 1) };
        let start = self.at::<T>(offset)?;
        // SAFETY: `at` found all of `T` inside the packet, any bytes are a valid `T` wherever they stand, and the packet
        // is neither moved nor written while it is borrowed.
        Some(unsafe { &*(start as *const T) })
    }

    /// Copies out the word at `offset` bytes. Headers are better viewed: a copy is cut into bytes.
    #[inline(always)]
    #[must_use]
    pub fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let start = self.at::<T>(offset)?;
        // SAFETY: `at` found all of `T` inside the packet, and any bytes are a valid `T`.
        Some(unsafe { (start as *const T).read_unaligned() })
    }

    /// Replaces the header at `offset` bytes.
    #[inline(always)]
    #[must_use]
    pub fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        let start = self.at::<T>(offset)?;
        // SAFETY: `at` found all of `T` inside the packet.
        unsafe { (start as *mut T).write_unaligned(header) };
        Some(())
    }

    /// Whether the frame is at least `length` bytes long, counting the parts beyond the linear one.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, length: usize) -> bool {
        self.data() + length <= self.data_end() || self.holds_in_fragments(length)
    }

    #[inline(always)]
    fn holds_in_fragments(&self, length: usize) -> bool {
        // SAFETY: as in `data`.
        length as u64 <= unsafe { (*self.context).length() }
    }
}

impl Packet {
    /// The packet of a program's context.
    #[inline(always)]
    #[must_use]
    pub const fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx }
    }

    /// The packet of what [`Self::into_raw`] gave.
    ///
    /// # Safety
    ///
    /// The context is the program's own.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn from_raw(context: *mut xdp_md) -> Self {
        Self { context }
    }

    /// The program's context, for a function that the verifier walks through by itself.
    #[inline(always)]
    #[must_use]
    pub const fn into_raw(self) -> *mut xdp_md {
        self.context
    }

    /// The program's context, for a function that only reads the packet, or writes what has been looked up anew.
    #[inline(always)]
    #[must_use]
    pub const fn raw(&self) -> *mut xdp_md {
        self.context
    }

    /// The index of the interface that the packet came in by.
    #[inline(always)]
    #[must_use]
    pub fn ingress(&self) -> u32 {
        // SAFETY: as in `data`.
        unsafe { (*self.context).ingress_ifindex }
    }

    /// Bytes of the whole frame.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "frames are shorter than 2^32 bytes")]
    pub fn length(&self) -> u32 {
        // SAFETY: as in `data`.
        unsafe { (*self.context).length() as u32 }
    }

    /// Copies `length` bytes from `offset` bytes on, wherever in the frame they are, to the beginning of `words`.
    /// There must be fewer than `words` have, and at least one (kernel 5.18).
    #[inline(always)]
    #[must_use]
    pub fn load<const N: usize>(&self, offset: usize, words: &mut [u64; N], length: usize) -> Option<()> {
        // verifier: a length that is not known is compared with constants.
        if length == 0 || length >= 8 * N {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "frames are shorter than 2^32 bytes")]
        let (offset, length) = (offset as u32, length as u32);
        // SAFETY: `words` have room for `length` bytes; the helper checks the frame's.
        let done = unsafe { bpf_xdp_load_bytes(self.context, offset, words.as_mut_ptr().cast(), length) };
        (done == 0).then_some(())
    }

    /// Makes the frame `length` bytes long, all of which are to be written: what is missing is made in front, where drivers
    /// leave room, what is too much is cut off behind.
    #[inline(always)]
    #[must_use]
    pub fn resize(self, length: usize) -> Option<Self> {
        let now = self.length() as usize;
        if length <= now {
            return if length == now { Some(self) } else { self.cut(length) };
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "frames are shorter than 2^31 bytes"
        )]
        let missing = (length - now) as i32;
        self.move_head(-missing)
    }

    /// Cuts the frame to `length` bytes, which are fewer than it has.
    #[inline(always)]
    #[must_use]
    pub fn cut(self, length: usize) -> Option<Self> {
        // SAFETY: as in `data`.
        let now = unsafe { (*self.context).length() };
        #[expect(clippy::cast_possible_truncation, reason = "frames are shorter than 2^31 bytes")]
        let less = length as i32 - now as i32;
        // SAFETY: `self` is consumed, so no address from before is left.
        (unsafe { bpf_xdp_adjust_tail(self.context, less) } == 0).then_some(self)
    }

    /// Moves the start of the packet by `bytes`: negative makes room in front, positive removes.
    #[inline(always)]
    #[must_use]
    pub fn move_head(self, bytes: i32) -> Option<Self> {
        // SAFETY: `self` is consumed, so no address from before the move is left.
        (unsafe { bpf_xdp_adjust_head(self.context, bytes) } == 0).then_some(self)
    }
}
