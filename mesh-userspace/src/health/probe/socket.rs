//! The sockets that probes ask through.

use std::io;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::{Deadline, ProbeError, Target};

/// An open TCP connection.
pub(super) async fn connected(target: Target<'_>, deadline: Deadline) -> Result<TcpStream, ProbeError> {
    let address = target.address;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| ProbeError::local(&error))?;
    if let Some(path) = target.path {
        path.lead_stream(SockRef::from(&socket)).map_err(|error| ProbeError::local(&error))?;
    }
    match deadline.meet(socket.connect(address)).await {
        Some(connected) => connected.map_err(|error| ProbeError::connect(address, deadline.after, &error)),
        None => Err(ProbeError::ConnectTimedOut { address, after: deadline.after }),
    }
}

/// A UDP socket that takes datagrams of the target only.
pub(super) async fn datagrams(target: Target<'_>) -> Result<UdpSocket, ProbeError> {
    let socket = unconnected(target).map_err(|error| ProbeError::local(&error))?;
    let connected = socket.connect(target.address).await;
    connected.map_err(|error| ProbeError::connect(target.address, std::time::Duration::ZERO, &error))?;
    Ok(socket)
}

fn unconnected(target: Target<'_>) -> io::Result<UdpSocket> {
    let domain = if target.address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(path) = target.path {
        path.lead_datagrams(SockRef::from(&socket))?;
    }
    UdpSocket::from_std(socket.into())
}

/// Sends a datagram and returns the first answer that `judge` takes for one.
pub(super) async fn exchange<T>(
    socket: &UdpSocket,
    datagram: &[u8],
    judge: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<T> {
    /// Longer than any datagram that comes in one piece: bytes.
    const LONGEST: usize = 65_536;
    socket.send(datagram).await?;
    let mut answer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        if let Some(judged) = judge(answer.get(..length).unwrap_or_default()) {
            return Ok(judged);
        }
    }
}
