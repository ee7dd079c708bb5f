//! A client's packet, from what is known of its flow: what the command line and the web page ask about.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use clap::ValueEnum;
use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep, TcpHeader, ip_number};
use serde::Deserialize;

/// Why there is no such packet.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Client and destination are of different families.
    #[error("{from} and {to} are of different families")]
    Families {
        /// The client.
        from: IpAddr,
        /// The destination.
        to: IpAddr,
    },
    /// A packet that cannot be written.
    #[error("the packet could not be put together: {0}")]
    NotBuilt(String),
}

/// What follows the IP header of a packet that is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// Another protocol, by its number.
    Number(u8),
}

impl FromStr for Proto {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            number => number
                .parse()
                .map(Self::Number)
                .map_err(|_not_a_number| "neither tcp nor udp nor a number from 0 to 255".to_owned()),
        }
    }
}

/// A flag of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// The connection begins.
    Syn,
    /// Something is acknowledged.
    Ack,
    /// The sender has said all.
    Fin,
    /// The connection is over.
    Rst,
    /// There is data for the application.
    Psh,
}

impl Flag {
    /// Its bit (RFC 9293 §3.1).
    #[must_use]
    pub const fn bit(self) -> u8 {
        match self {
            Self::Fin => 0x01,
            Self::Syn => 0x02,
            Self::Rst => 0x04,
            Self::Psh => 0x08,
            Self::Ack => 0x10,
        }
    }
}

/// An address with a port, or without one: then it is 0.
/// A packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The client.
    pub from: SocketAddr,
    /// Whom it is to.
    pub to: SocketAddr,
    /// What follows its IP header.
    pub proto: Proto,
    /// Flags of a TCP segment.
    pub flags: Vec<Flag>,
    /// Bytes of payload, of a packet that is not TCP.
    pub payload: u16,
}

/// One end of a flow: `198.51.100.7:40000`, or an address alone, where there are no ports.
///
/// # Errors
///
/// The text is neither; what it should be is in the error.
pub fn end(text: &str) -> Result<SocketAddr, String> {
    let alone = |_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    text.parse().or_else(alone).map_err(|_neither| {
        "not an address with a port, such as 203.0.113.10:80 or [2001:db8::10]:80".to_owned()
    })
}

/// Addresses of nobody's (RFC 7042 §2.1: locally administered), none of a group: the program looks at no more.
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BALANCER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Of a packet that has come a little way.
const HOPS: u8 = 60;

/// What a SYN's sender offers. Bytes.
const WINDOW: u16 = 64_240;

impl Described {
    /// The packet, from its Ethernet header on.
    ///
    /// # Errors
    ///
    /// Its ends are of different families.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let Self { from, to, proto, flags, payload } = self;
        match proto {
            Proto::Tcp => tcp(*from, *to, flags),
            Proto::Udp => udp(*from, *to, *payload),
            Proto::Number(number) => other(*from, *to, *number, *payload),
        }
    }
}

fn tcp(from: SocketAddr, to: SocketAddr, flags: &[Flag]) -> Result<Vec<u8>, BuildError> {
    let mut header = TcpHeader::new(from.port(), to.port(), 1, WINDOW);
    header.syn = flags.contains(&Flag::Syn);
    header.ack = flags.contains(&Flag::Ack);
    header.fin = flags.contains(&Flag::Fin);
    header.rst = flags.contains(&Flag::Rst);
    header.psh = flags.contains(&Flag::Psh);
    let mut bytes = Vec::new();
    let written = ip(from.ip(), to.ip())?.tcp_header(header).write(&mut bytes, &[]);
    written.map_err(|error| BuildError::NotBuilt(error.to_string()))?;
    Ok(bytes)
}

fn udp(from: SocketAddr, to: SocketAddr, payload: u16) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    let packet = ip(from.ip(), to.ip())?.udp(from.port(), to.port());
    let written = packet.write(&mut bytes, &vec![0; payload.into()]);
    written.map_err(|error| BuildError::NotBuilt(error.to_string()))?;
    Ok(bytes)
}

fn other(from: SocketAddr, to: SocketAddr, number: u8, payload: u16) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    let written = ip(from.ip(), to.ip())?.write(&mut bytes, IpNumber(number), &vec![0; payload.into()]);
    written.map_err(|error| BuildError::NotBuilt(error.to_string()))?;
    Ok(bytes)
}

fn ip(from: IpAddr, to: IpAddr) -> Result<PacketBuilderStep<etherparse::IpHeaders>, BuildError> {
    let ethernet = PacketBuilder::ethernet2(CLIENT, BALANCER);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(ethernet.ipv4(from.octets(), to.octets(), HOPS)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(ethernet.ipv6(from.octets(), to.octets(), HOPS)),
        _ => Err(BuildError::Families { from, to }),
    }
}

/// The protocols that have ports here.
const _: () = assert!(ip_number::TCP.0 == 6 && ip_number::UDP.0 == 17);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::headers;

    fn built(from: &str, to: &str, proto: Proto, flags: &[Flag]) -> Result<Vec<String>, BuildError> {
        let [from, to] = [from, to].map(|text| end(text).unwrap());
        let packet = Described { from, to, proto, flags: flags.to_vec(), payload: 0 };
        Ok(headers(&packet.build()?, &[]))
    }

    #[test]
    fn packets_of_both_families_are_what_was_asked_for() {
        let tcp = built("192.0.2.7:4000", "203.0.113.10:80", Proto::Tcp, &[Flag::Syn, Flag::Ack]).unwrap();
        assert_eq!(
            tcp[1..],
            [
                "IPv4 192.0.2.7 > 203.0.113.10 protocol 6 ttl 60 length 40",
                "TCP 4000 > 80 [SYN ACK] seq 1 ack 0"
            ]
        );
        let udp = built("[2001:db8:1::7]:4000", "[2001:db8::10]:53", Proto::Udp, &[]).unwrap();
        assert_eq!(
            udp[1..],
            ["IPv6 2001:db8:1::7 > 2001:db8::10 next 17 hops 60 payload 8", "UDP 4000 > 53 length 8"]
        );
        let esp = built("192.0.2.7:0", "203.0.113.10:0", Proto::Number(50), &[]).unwrap();
        assert_eq!(esp[1..], ["IPv4 192.0.2.7 > 203.0.113.10 protocol 50 ttl 60 length 20"]);
    }

    #[test]
    fn a_packet_has_one_family() {
        let error = built("192.0.2.7:4000", "[2001:db8::10]:53", Proto::Udp, &[]).unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.7 and 2001:db8::10 are of different families");
    }
}
