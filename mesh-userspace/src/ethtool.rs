//! An interface's driver, as ethtool asks for it, and what it switches.
#![expect(
    unsafe_code,
    reason = "the kernel's ioctl for this takes raw pointers, and no library has both questions"
)]

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;

/// Of `include/uapi/linux/ethtool.h`: questions, and bits of the answer to the second.
const GET_DRIVER: u32 = 0x03;
const GET_FLAGS: u32 = 0x25;
const STRIPS_VLAN: u32 = 1 << 8;

/// What an interface does for the stack, or has done. The values are the commands that switch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Feature {
    /// Checksums of what is sent.
    Checksums = 0x17,
    /// TCP segments are cut.
    Segmentation = 0x1f,
    /// Packets that come in are merged.
    Merging = 0x2c,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksums => "checksums (tx)",
            Self::Segmentation => "segmentation (tso)",
            Self::Merging => "merging (gro)",
        })
    }
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

const _: () = assert!(size_of::<DriverInfo>() == 196 && size_of::<Value>() == 8);

/// Its name; `None`: it has none, or the kernel does not tell.
pub(crate) fn name(interface: &str) -> Option<String> {
    let mut info = DriverInfo { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
    ask(interface, (&raw mut info).cast()).ok()?;
    let name = CStr::from_bytes_until_nul(&info.driver).ok()?.to_str().ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether it takes VLAN tags off packets before a program sees them.
pub(crate) fn strips_vlan(interface: &str) -> bool {
    let mut value = Value { command: GET_FLAGS, data: 0 };
    ask(interface, (&raw mut value).cast()).is_ok() && value.data & STRIPS_VLAN != 0
}

/// Switches something on or off.
pub(crate) fn switch(interface: &str, what: Feature, is_on: bool) -> io::Result<()> {
    let mut value = Value { command: what as u32, data: is_on.into() };
    ask(interface, (&raw mut value).cast())
}

/// `question` points to a structure that begins with its command, which fixes the structure's size.
fn ask(interface: &str, question: *mut libc::c_char) -> io::Result<()> {
    let socket =
        std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_no_ipv4| std::net::UdpSocket::bind("[::]:0"))?;
    // SAFETY: all bytes of the structure may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the kernel takes names up to 15 bytes.
    let (last, room) = request.ifr_name.split_last_mut().ok_or(io::ErrorKind::InvalidInput)?;
    if interface.len() > room.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    *last = 0;
    for (to, from) in room.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = question;
    // SAFETY: the request and the structure that it points to outlive the call; the kernel writes no more than the
    // command's structure has.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_has_no_driver() {
        assert_eq!(name("no-such-if"), None);
        assert_eq!(name("a-name-that-is-too-long"), None);
        assert!(!strips_vlan("no-such-if"));
        assert!(switch("no-such-if", Feature::Merging, true).is_err());
    }
}
