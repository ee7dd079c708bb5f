//! Floods: packets that would each begin a flow, from addresses that nobody has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};

use crate::Host;

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// TCP SYNs.
    Syns,
    /// UDP datagrams of a few bytes.
    Datagrams,
}

/// A flood from a host, until it is dropped.
#[derive(Debug)]
pub struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Packets between two looks at the clock.
const AT_ONCE: u64 = 32;

impl Flood {
    /// Sends to a service, so many packets a second or as many as go.
    pub fn start(host: &Host, of: Of, service: SocketAddr, pace: Option<u32>) -> Result<Self> {
        let family = if service.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let open = || socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw);
        let socket = host.run(open)?.context("no raw socket")?;
        let (over, sent) = (Arc::default(), Arc::default());
        let (stop, count) = (Arc::clone(&over), Arc::clone(&sent));
        let thread = thread::spawn(move || send(&socket, of, service, pace, &stop, &count));
        Ok(Self { over, sent, thread: Some(thread) })
    }

    /// Packets so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it: how many packets it was.
    pub fn end(mut self) -> Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_panic| anyhow::anyhow!("the flood panicked"))??;
        }
        Ok(self.sent())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn send(
    socket: &OwnedFd,
    of: Of,
    service: SocketAddr,
    pace: Option<u32>,
    over: &AtomicBool,
    sent: &AtomicU64,
) -> Result<()> {
    let started = Instant::now();
    let mut packet = Vec::with_capacity(128);
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        if let Some(pace) = pace {
            let due = Duration::from_secs(number) / pace;
            thread::sleep(due.saturating_sub(started.elapsed()));
        }
        for _ in 0..AT_ONCE {
            number += 1;
            write(of, service, number, &mut packet)?;
            give(socket, service, &packet)?;
        }
        sent.store(number, Ordering::Relaxed);
    }
    Ok(())
}

/// The packet with a number; no two of the first 2^32 are of one flow.
fn write(of: Of, service: SocketAddr, number: u64, packet: &mut Vec<u8>) -> Result<()> {
    // Of networks for measurements (RFC 2544 §C.2.2, RFC 5180 §8).
    let [first, second, low, high, ..] = number.to_le_bytes();
    let port = 1024 + u16::from_le_bytes([low, high]) % 64_000;
    let [a, b, c, d, e, ..] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let bit = a >> 7;
    packet.clear();
    let builder = match service.ip() {
        IpAddr::V4(vip) => PacketBuilder::ipv4([198, 18 + bit, first, second], vip.octets(), 64),
        IpAddr::V6(vip) => {
            let source = Ipv6Addr::new(0x2001, 2, 0, bit.into(), 0, 0, first.into(), second.into());
            PacketBuilder::ipv6(source.octets(), vip.octets(), 64)
        }
    };
    match of {
        Of::Syns => {
            builder
                .tcp(port, service.port(), u32::from_le_bytes([b, c, d, e]), 64_240)
                .syn()
                .write(packet, &[])?;
        }
        Of::Datagrams => builder.udp(port, service.port()).write(packet, &[0; 16])?,
    }
    Ok(())
}

/// Sends a packet; one for which there is no room is lost, as in any flood.
fn give(socket: &OwnedFd, service: SocketAddr, packet: &[u8]) -> Result<()> {
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let sent = match service.ip() {
        IpAddr::V4(vip) => sendto(fd, packet, &to4(vip), flags),
        IpAddr::V6(vip) => sendto(fd, packet, &to6(vip), flags),
    };
    match sent {
        Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()),
        Err(error) => Err(error).context("the flood has no way"),
    }
}

fn to4(vip: Ipv4Addr) -> SockaddrIn {
    SocketAddrV4::new(vip, 0).into()
}

fn to6(vip: Ipv6Addr) -> SockaddrIn6 {
    SocketAddrV6::new(vip, 0, 0, 0).into()
}
