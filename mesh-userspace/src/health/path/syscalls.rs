//! System calls that no library wraps: a device, and frames.
#![expect(unsafe_code, reason = "raw system calls take raw pointers")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What the device is called; the kernel counts.
const NAME: &[u8] = b"meshlb-probe%d";

/// Makes a device for IP packets, which ends with its descriptor, and answers its name.
pub(super) fn open_tun() -> io::Result<(OwnedFd, String)> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let tun = open("/dev/net/tun", flags, Mode::empty())?;
    // SAFETY: integers and pointers to nothing.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(NAME) {
        *place = byte.cast_signed();
    }
    #[expect(clippy::cast_possible_truncation, reason = "flags of the first 16 bits")]
    let kind = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    request.ifr_ifru.ifru_flags = kind;
    // SAFETY: the kernel reads and writes an `ifreq`, which is ours.
    let made = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel ends names of interfaces with a zero within the array.
    let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    Ok((tun, name.to_string_lossy().into_owned()))
}

/// Has tokio tell when there are packets to read.
pub(super) fn follow(tun: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is returned, and so is open as long as it is registered.
    let followed = unsafe { AsyncFd::register_with_interest(tun, Interest::READABLE) };
    followed.map_err(io::Error::from)
}

/// A socket that sends frames and receives none.
pub(super) fn frame_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Sends a frame by an interface.
pub(super) fn send_frame(socket: BorrowedFd<'_>, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: integers only.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "of AF_PACKET, which is 17, and of the structure's size"
    )]
    let (family, length) = (libc::AF_PACKET as u16, size_of::<libc::sockaddr_ll>() as u32);
    to.sll_family = family;
    to.sll_ifindex = i32::try_from(ifindex).unwrap_or(0);
    // SAFETY: the frame and the address are ours, with their lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
