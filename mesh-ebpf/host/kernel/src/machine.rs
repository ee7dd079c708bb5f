//! Who plays the kernel: the packet's memory, the clock, and the calls from program to program.

use crate::{bindings::xdp_md, programs::XdpContext};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::{
    cell::UnsafeCell,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

/// Bytes in front of a packet that a program may take (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h), less those of
/// `struct xdp_frame`, which the kernel keeps there.
pub const HEADROOM: usize = 256 - 40;

/// Most bytes of a packet.
pub const LONGEST: usize = 4096;

/// A program of XDP.
pub type Program = fn(XdpContext) -> u32;

/// A packet and the memory around it; programs see its first member.
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) packet: xdp_md,
    /// Where its memory begins.
    pub(crate) first: u32,
}

static JIFFIES: AtomicU64 = AtomicU64::new(0);

/// Sets the kernel's counter of jiffies.
pub fn set_jiffies(jiffies: u64) {
    JIFFIES.store(jiffies, Ordering::Relaxed);
}

pub(crate) fn jiffies() -> u64 {
    JIFFIES.load(Ordering::Relaxed)
}

/// Memory for one packet, below 2^32: programs know its address by 32 bits.
pub struct Memory(UnsafeCell<Frame>);

/// How a program went on with another: that one's index.
struct Call(u32);

/// Goes on with the program at an index of the programs that are run; the program that calls ends here.
pub fn tail_call(index: u32) -> ! {
    // Without the hook of panics: this is none.
    resume_unwind(Box::new(Call(index)))
}

impl Memory {
    /// Memory for one packet.
    ///
    /// # Errors
    ///
    /// There is none below 2^32.
    pub fn new(ingress: u32) -> nix::Result<Self> {
        let length = NonZeroUsize::new(HEADROOM + LONGEST).unwrap_or(NonZeroUsize::MIN);
        let (access, flags) =
            (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_32BIT | MapFlags::MAP_PRIVATE);
        // SAFETY: new memory, wherever there is room.
        let first = unsafe { mmap_anonymous(None, length, access, flags) }?;
        let first = u32::try_from(first.as_ptr().addr()).map_err(|_beyond| nix::Error::ENOMEM)?;
        let packet = xdp_md { ingress_ifindex: ingress, ..xdp_md::default() };
        Ok(Self(UnsafeCell::new(Frame { packet, first })))
    }

    /// Runs the first of the programs with a packet, and those that follow: the last one's answer, and the packet as it
    /// left it. Packets are no longer than [`LONGEST`].
    ///
    /// # Panics
    ///
    /// A program goes on with one that is not there.
    #[expect(
        clippy::panic,
        reason = "the kernel would come back to the program, which was left for good here"
    )]
    pub fn run(&mut self, programs: &[Program], packet: &[u8]) -> (u32, Vec<u8>) {
        self.put(packet);
        let mut index = 0;
        loop {
            let context = XdpContext::new(self.0.get().cast());
            let program = programs.get(index).copied();
            let program = program.unwrap_or_else(|| panic!("there is no program {index}"));
            match catch_unwind(AssertUnwindSafe(|| program(context))) {
                Ok(action) => return (action, self.packet().to_vec()),
                Err(ended) => match ended.downcast::<Call>() {
                    // Behind the first, which is nowhere in the kernel's map of programs.
                    Ok(called) => index = 1 + called.0 as usize,
                    Err(panic) => resume_unwind(panic),
                },
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "packets are short")]
    fn put(&mut self, packet: &[u8]) {
        assert!(packet.len() <= LONGEST);
        let frame = self.0.get_mut();
        let data = frame.first + HEADROOM as u32;
        // Garbage, so that a byte that nobody writes is seen.
        // SAFETY: the memory is the frame's, from its first byte to the last that a packet can have.
        unsafe {
            let first = frame.first as usize as *mut u8;
            first.write_bytes(0xa5, HEADROOM + LONGEST);
            (data as usize as *mut u8).copy_from_nonoverlapping(packet.as_ptr(), packet.len());
        }
        frame.packet.data = data;
        frame.packet.data_meta = data;
        frame.packet.data_end = data + packet.len() as u32;
    }

    fn packet(&mut self) -> &[u8] {
        let packet = self.0.get_mut().packet;
        let length = packet.data_end.saturating_sub(packet.data) as usize;
        // SAFETY: helpers keep the packet within its memory.
        unsafe { core::slice::from_raw_parts(packet.data as usize as *const u8, length) }
    }
}
