//! A client's packet, from what is known of its flow.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep, TcpHeader, ip_number};

use super::PacketError;
use crate::cli::args::{ExplainArgs, Flag, Proto};

/// Addresses of nobody's (RFC 7042 §2.1: locally administered), none of a group: the program looks at no more.
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BALANCER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Of a packet that has come a little way.
const HOPS: u8 = 60;

/// What a SYN's sender offers. Bytes.
const WINDOW: u16 = 64_240;

/// A client's first packet, or another by its flags.
pub(super) fn packet(args: &ExplainArgs) -> Result<Vec<u8>, PacketError> {
    let (Some(from), Some(to)) = (args.from, args.to) else {
        return Err(PacketError::NotBuilt("it needs --from and --to".to_owned()));
    };
    match args.proto {
        Proto::Tcp => tcp(from, to, &args.flags),
        Proto::Udp => udp(from, to, args.payload),
        Proto::Number(number) => other(from, to, number, args.payload),
    }
}

fn tcp(from: SocketAddr, to: SocketAddr, flags: &[Flag]) -> Result<Vec<u8>, PacketError> {
    let mut header = TcpHeader::new(from.port(), to.port(), 1, WINDOW);
    header.syn = flags.contains(&Flag::Syn);
    header.ack = flags.contains(&Flag::Ack);
    header.fin = flags.contains(&Flag::Fin);
    header.rst = flags.contains(&Flag::Rst);
    header.psh = flags.contains(&Flag::Psh);
    let mut bytes = Vec::new();
    let written = ip(from.ip(), to.ip())?.tcp_header(header).write(&mut bytes, &[]);
    written.map_err(|error| PacketError::NotBuilt(error.to_string()))?;
    Ok(bytes)
}

fn udp(from: SocketAddr, to: SocketAddr, payload: u16) -> Result<Vec<u8>, PacketError> {
    let mut bytes = Vec::new();
    let packet = ip(from.ip(), to.ip())?.udp(from.port(), to.port());
    let written = packet.write(&mut bytes, &vec![0; payload.into()]);
    written.map_err(|error| PacketError::NotBuilt(error.to_string()))?;
    Ok(bytes)
}

fn other(from: SocketAddr, to: SocketAddr, number: u8, payload: u16) -> Result<Vec<u8>, PacketError> {
    let mut bytes = Vec::new();
    let written = ip(from.ip(), to.ip())?.write(&mut bytes, IpNumber(number), &vec![0; payload.into()]);
    written.map_err(|error| PacketError::NotBuilt(error.to_string()))?;
    Ok(bytes)
}

fn ip(from: IpAddr, to: IpAddr) -> Result<PacketBuilderStep<etherparse::IpHeaders>, PacketError> {
    let ethernet = PacketBuilder::ethernet2(CLIENT, BALANCER);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(ethernet.ipv4(from.octets(), to.octets(), HOPS)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(ethernet.ipv6(from.octets(), to.octets(), HOPS)),
        _ => Err(PacketError::Families { from, to }),
    }
}

/// The protocols that have ports here.
const _: () = assert!(ip_number::TCP.0 == 6 && ip_number::UDP.0 == 17);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::headers;

    fn built(from: &str, to: &str, proto: Proto, flags: &[Flag]) -> Result<Vec<String>, PacketError> {
        let args = ExplainArgs {
            from: Some(from.parse().unwrap()),
            to: Some(to.parse().unwrap()),
            proto,
            flags: flags.to_vec(),
            ..ExplainArgs::default()
        };
        Ok(headers(&packet(&args)?, &[]))
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
