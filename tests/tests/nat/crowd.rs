//! Very many flows of one client at a time: more than this process may have sockets, so they are made of raw datagrams.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etherparse::UdpHeader;
use mesh_tests::{Host, HostRuntime};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Datagrams on their way at a time, which every queue takes.
const AT_ONCE: usize = 100;

/// How long answers are waited for; what is not answered is sent again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Bytes of an IPv4 header without options, and of a UDP header.
const HEADERS: [usize; 2] = [20, 8];

/// Says again what it hears, at a port of a host, until it is dropped.
pub(crate) fn echo(host: &Host, port: u16) -> HostRuntime {
    let runtime = host.runtime(1).unwrap();
    let address = SocketAddr::new(host.v4().into(), port);
    let socket = runtime.block_on(tokio::net::UdpSocket::bind(address)).unwrap().unwrap();
    runtime.spawn(async move {
        let mut heard = [0; 64];
        // An error is one of an earlier datagram's receiver.
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut heard).await {
                let _ = socket.send_to(&heard[..length], from).await;
            }
        }
    });
    runtime
}

/// Sends a datagram from each of these ports until all are answered, at the port that they came from, with what they said.
/// How many were, in time.
pub(crate) fn ask_from(
    host: &Host,
    ports: std::ops::Range<u16>,
    service: SocketAddrV4,
    within: Duration,
) -> usize {
    host.run(|| ask(ports, service, within)).unwrap().unwrap()
}

fn ask(ports: std::ops::Range<u16>, service: SocketAddrV4, within: Duration) -> Result<usize> {
    let own = own_address(service)?;
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Udp)?;
    setsockopt(&raw, ReceiveTimeout, &TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis())?))?;
    let (all, deadline) = (ports.len(), Instant::now() + within);
    let mut unanswered: BTreeSet<u16> = ports.collect();
    while !unanswered.is_empty() && Instant::now() < deadline {
        for turn in unanswered.iter().copied().collect::<Vec<_>>().chunks(AT_ONCE) {
            for port in turn {
                send(&raw, SocketAddrV4::new(own, *port), service)?;
            }
            hear(&raw, service, &mut unanswered, turn)?;
        }
    }
    Ok(all - unanswered.len())
}

/// The address that this host has towards the service.
fn own_address(service: SocketAddrV4) -> Result<Ipv4Addr> {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    probe.connect(service)?;
    let SocketAddr::V4(own) = probe.local_addr()? else { anyhow::bail!("no IPv4") };
    Ok(*own.ip())
}

fn send(raw: &OwnedFd, from: SocketAddrV4, to: SocketAddrV4) -> Result<()> {
    let said = from.port().to_be_bytes();
    let [source, destination] = [from.ip().octets(), to.ip().octets()];
    let mut header = UdpHeader::without_ipv4_checksum(from.port(), to.port(), said.len())?;
    header.checksum = header.calc_checksum_ipv4_raw(source, destination, &said)?;
    let datagram = [&header.to_bytes()[..], &said[..]].concat();
    sendto(raw.as_raw_fd(), &datagram, &SockaddrIn::from(to), MsgFlags::empty())?;
    Ok(())
}

/// Takes answers until all of a turn are answered, or none comes any more.
fn hear(raw: &OwnedFd, service: SocketAddrV4, unanswered: &mut BTreeSet<u16>, turn: &[u16]) -> Result<()> {
    let mut packet = [0; 128];
    while turn.iter().any(|port| unanswered.contains(port)) {
        let length = match recv(raw.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let [ip, udp] = HEADERS;
        let (header, said) = packet[ip..length].split_at(udp);
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if packet[12..16] == service.ip().octets() && word(0) == service.port() {
            ensure!(said == word(2).to_be_bytes(), "port {} was answered with {said:?}", word(2));
            unanswered.remove(&word(2));
        }
    }
    Ok(())
}
