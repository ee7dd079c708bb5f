//! System calls that no library wraps.
#![expect(unsafe_code, reason = "raw system calls take raw pointers")]

use aya::{
    Pod,
    maps::{MapData, RingBuf},
};
use nix::libc;
use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Of `enum bpf_cmd` (include/uapi/linux/bpf.h): `BPF_OBJ_GET` and `BPF_LINK_DETACH` (kernels 4.4 and 5.9).
const OBJECT_GET: libc::c_long = 7;
const LINK_DETACH: libc::c_long = 34;
/// `BPF_MAP_LOOKUP_BATCH` (kernel 5.6; per-CPU arrays 5.13).
const LOOKUP_BATCH: libc::c_long = 24;

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

#[repr(C)]
struct LookupBatch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Reads a per-CPU array of `elements`, each of `words` words on each of `cpus`, in few calls: element by element, CPU
/// after CPU.
pub(super) fn read_per_cpu(
    map: BorrowedFd<'_>,
    elements: usize,
    words: usize,
    cpus: usize,
) -> io::Result<Vec<u64>> {
    const AT_ONCE: usize = 4096;
    let (mut all, mut from) = (Vec::with_capacity(elements * words * cpus), None::<u32>);
    while all.len() < elements * words * cpus {
        let count = AT_ONCE.min(elements - all.len() / (words * cpus));
        let (mut keys, mut values) = (vec![0u32; count], vec![0u64; count * words * cpus]);
        // SAFETY: both have room for `count` elements.
        let (read, next) =
            unsafe { lookup_batch(map, from, keys.as_mut_ptr().cast(), values.as_mut_ptr().cast(), count) }?;
        all.extend_from_slice(values.get(..read * words * cpus).unwrap_or_default());
        if next.is_none() || read == 0 {
            break;
        }
        from = next;
    }
    Ok(all)
}

/// Calls `visit` with every element of a hash map, `at_once` of which are read by one call. Elements that come and go
/// meanwhile may be visited or not, or twice.
pub(super) fn each_element<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    at_once: usize,
    mut visit: impl FnMut(K, V),
) -> io::Result<()> {
    let mut keys: Vec<MaybeUninit<K>> = Vec::with_capacity(at_once);
    let mut values: Vec<MaybeUninit<V>> = Vec::with_capacity(at_once);
    keys.resize_with(at_once, MaybeUninit::zeroed);
    values.resize_with(at_once, MaybeUninit::zeroed);
    let mut from = None;
    loop {
        // SAFETY: both have room for `at_once` elements.
        let (read, next) = unsafe {
            lookup_batch(map, from, keys.as_mut_ptr().cast(), values.as_mut_ptr().cast(), at_once)
        }?;
        for (key, value) in keys.iter().zip(&values).take(read) {
            // SAFETY: plain data, of which any bytes are a value.
            unsafe { visit(key.assume_init(), value.assume_init()) };
        }
        if next.is_none() {
            return Ok(());
        }
        from = next;
    }
}

/// Reads up to `count` elements of a map, from the place on where the call before ended, and returns how many it read
/// and where to go on.
///
/// # Safety
///
/// There is room for `count` keys, as such a map returns them, and `count` values.
unsafe fn lookup_batch(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    keys: *mut libc::c_void,
    values: *mut libc::c_void,
    count: usize,
) -> io::Result<(usize, Option<u32>)> {
    let mut next = 0u32;
    let mut batch = LookupBatch {
        from: from.as_ref().map_or(0, |from| (&raw const *from) as u64),
        next: (&raw mut next) as u64,
        keys: keys as u64,
        values: values as u64,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        map: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the attribute outlives the call; the caller answers for what it points to.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut batch, size_of::<LookupBatch>()) };
    let error = io::Error::last_os_error();
    // The end is reported as an error, beside what was read until there.
    let is_end = done != 0 && error.raw_os_error() == Some(libc::ENOENT);
    if done != 0 && !is_end {
        return Err(error);
    }
    let read = usize::try_from(batch.count).unwrap_or(0).min(count);
    Ok((read, (!is_end).then_some(next)))
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

/// What becomes readable when the kernel has written to a ring buffer.
pub(super) fn follow(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring buffer owns its map's descriptor, which is open as long as it lives and never another.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)
}

/// Waits until every packet is through that may have seen the maps as they were: an RCU grace period, which
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` is (kernel 4.3). Where it is refused, a time far longer than any packet takes.
pub(crate) fn wait_for_packets() {
    // SAFETY: the call takes no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer != 0 {
        std::thread::sleep(Duration::from_millis(100));
    }
}
