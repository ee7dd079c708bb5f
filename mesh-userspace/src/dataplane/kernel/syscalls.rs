//! System calls that no library wraps.
#![expect(unsafe_code, reason = "raw system calls take raw pointers")]

use nix::libc;
use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};

/// `BPF_OBJ_GET` and `BPF_LINK_DETACH` of `enum bpf_cmd` (include/uapi/linux/bpf.h, kernels 4.4 and 5.9).
const OBJECT_GET: libc::c_long = 7;
const LINK_DETACH: libc::c_long = 34;

/// The parts of `union bpf_attr` that the two commands read.
#[repr(C)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct LinkDetach {
    link: u32,
    reserved: u32,
}

/// Detaches the program behind a pinned link at once. Without it the kernel does so only some time after the last
/// reference to the link went away, and refuses another attachment until then.
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = ObjectGet { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the attribute and the path that it points to outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJECT_GET, &raw const get, size_of::<ObjectGet>()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let detach = LinkDetach { link: link.as_raw_fd().cast_unsigned(), reserved: 0 };
    // SAFETY: the attribute outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, LINK_DETACH, &raw const detach, size_of::<LinkDetach>()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until every packet is through that may have seen the maps as they were: an RCU grace period, which
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is (kernel 4.3). Where it is refused, a time far longer than any packet takes.
pub(super) fn wait_for_packets() {
    // SAFETY: the call takes no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer != 0 {
        std::thread::sleep(Duration::from_millis(100));
    }
}
