//! Sends an echo request (RFC 792, RFC 4443 §4.1) and waits for its reply.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mesh_common::{checksum, icmp};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::{Deadline, ProbeError, Target, socket};

/// Fewest bytes behind the header: random ones, by which the reply is known.
const PAYLOAD: usize = 16;

/// Bytes of the header of an echo request.
const HEADER: usize = 8;

pub(super) async fn probe(target: Target<'_>, deadline: Deadline) -> Result<Duration, ProbeError> {
    let address = target.address.ip();
    let shown = || format!("an echo request to {address}");
    let socket = raw(address).map_err(|error| refused(&error))?;
    let echo = Echo::new(address.is_ipv4(), payload(target));
    let echo = echo.map_err(|error| ProbeError::Local { reason: error.to_string() })?;
    if let Some(path) = target.path {
        let number = if address.is_ipv4() { icmp::ICMP } else { icmp::ICMPV6 };
        let led = path.lead_echo(SockRef::from(&socket), number, echo.identifier());
        led.map_err(|error| ProbeError::local(&error))?;
    }
    let asked = async {
        // A raw socket has no ports.
        socket.connect(SocketAddr::new(address, 0)).await?;
        socket::exchange(&socket, &echo.request, |packet| echo.is_reply(packet).then_some(())).await
    };
    let answered = deadline.answer(shown, asked).await?;
    answered.map_err(|error| ProbeError::connect(SocketAddr::new(address, 0), deadline.after, &error))?;
    Ok(deadline.elapsed())
}

/// A raw socket, in the shape of one of datagrams, which differs in nothing that is used here.
fn raw(address: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// As many bytes as fill the longest packet of the path, or few.
fn payload(target: Target<'_>) -> usize {
    let headers = if target.address.is_ipv4() { 20 } else { 40 } + HEADER;
    let longest = target.path.map_or(0, |path| usize::from(path.longest()));
    longest.saturating_sub(headers).max(PAYLOAD)
}

fn refused(error: &io::Error) -> ProbeError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return ProbeError::Local { reason: "echo requests take the capability CAP_NET_RAW".to_owned() };
    }
    ProbeError::local(error)
}

/// An echo request and its reply.
struct Echo {
    is_ipv4: bool,
    request: Vec<u8>,
}

impl Echo {
    fn new(is_ipv4: bool, payload: usize) -> Result<Self, getrandom::Error> {
        let mut request = vec![0; HEADER + payload];
        getrandom::fill(request.get_mut(4..).unwrap_or_default())?;
        if let [kind, ..] = request.as_mut_slice() {
            *kind = if is_ipv4 { 8 } else { 128 };
        }
        if is_ipv4 {
            let sum = request.as_chunks::<2>().0.iter().fold(0, |sum, word| checksum::add(sum, word));
            if let [_, _, high, low, ..] = request.as_mut_slice() {
                [*high, *low] = checksum::finish(sum).to_ne_bytes();
            }
        }
        Ok(Self { is_ipv4, request })
    }

    /// By which its packet is told from others.
    fn identifier(&self) -> u16 {
        match self.request.as_slice() {
            [_, _, _, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    /// Whether a packet, of IPv4 with its header, is the reply: of the right type, with what was sent.
    fn is_reply(&self, packet: &[u8]) -> bool {
        let header = match packet {
            [first, ..] if self.is_ipv4 => usize::from(first & 0xf) * 4,
            _ => 0,
        };
        let kind = if self.is_ipv4 { 0 } else { 129 };
        let message = packet.get(header..).unwrap_or_default();
        matches!(message, [found, 0, _, _, rest @ ..] if *found == kind && Some(rest) == self.request.get(4..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_what_was_sent() {
        for is_ipv4 in [true, false] {
            let echo = Echo::new(is_ipv4, PAYLOAD).unwrap();
            let header = if is_ipv4 { vec![0x45; 20] } else { vec![] };
            let mut reply = [header.clone(), echo.request.clone()].concat();
            assert!(!echo.is_reply(&reply), "this is the request");
            reply[header.len()] = if is_ipv4 { 0 } else { 129 };
            assert!(echo.is_reply(&reply));
            assert!(!echo.is_reply(&reply[..reply.len() - 1]) && !echo.is_reply(&[]));
            *reply.last_mut().unwrap() ^= 1;
            assert!(!echo.is_reply(&reply), "another's");
        }
    }

    #[test]
    fn the_checksum_is_right() {
        let request = Echo::new(true, PAYLOAD).unwrap().request;
        let sum = request.as_chunks::<2>().0.iter().fold(0, |sum, word| checksum::add(sum, word));
        assert_eq!(checksum::finish(sum), 0);
    }
}
