//! The sockets that probes ask through.

use std::io;

use rustls::pki_types::ServerName;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{Deadline, ProbeError, Target};
use crate::config::Tls;
use crate::http::tls;

/// An open TCP connection, with TLS in it if that is wanted: then hands are shaken and the certificate is checked.
pub(super) async fn opened(
    target: Target<'_>,
    tls: Option<&Tls>,
    deadline: Deadline,
) -> Result<Either<TcpStream, Box<TlsStream<TcpStream>>>, ProbeError> {
    let stream = connected(target, deadline).await?;
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return Ok(Either::Left(stream)) };
    let address = target.address;
    let handshake = tls::connect(stream, tls, ServerName::from(address.ip()));
    match deadline.meet(handshake).await {
        // It takes kilobytes, which what waits for an answer should not carry.
        Some(shaken) => shaken
            .map(|stream| Either::Right(Box::new(stream)))
            .map_err(|reason| ProbeError::Tls { address, reason }),
        None => Err(ProbeError::NoAnswer { request: format!("TLS with {address}"), after: deadline.after }),
    }
}

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
