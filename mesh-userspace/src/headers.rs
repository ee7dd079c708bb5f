//! Packets as people read them: a line for each header, the outermost first.

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice,
    TcpSlice, TransportSlice,
};
use std::fmt::Write as _;

/// Headers within headers that are looked at: an outer one, the client's, and that which an ICMP error quotes.
const DEEPEST: usize = 3;

/// Bytes of a Geneve header without options (RFC 8926 §3.4), and what says that an Ethernet frame follows.
const GENEVE: usize = 8;

/// What a UDP port of a backend unwraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// An IP packet follows the UDP header.
    Gue,
    /// An IP packet follows a Geneve header.
    Geneve,
}

/// The bytes of hexadecimal digits; none if they are none.
#[must_use]
pub fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |letter: &u8| char::from(*letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

/// The headers of a frame; packets to `tunnels`' UDP ports are looked into.
#[must_use]
pub fn headers(frame: &[u8], tunnels: &[(u16, Tunnel)]) -> Vec<String> {
    let mut lines = Vec::new();
    match LaxSlicedPacket::from_ethernet(frame) {
        Ok(packet) => {
            lines.extend(packet.link.iter().filter_map(link));
            lines.extend(packet.link_exts.iter().filter_map(tag));
            network(&packet, tunnels, DEEPEST, &mut lines);
        }
        Err(error) => lines.push(format!("no Ethernet frame: {error}")),
    }
    lines
}

fn link(link: &LinkSlice<'_>) -> Option<String> {
    let header = link.to_header()?.ethernet2()?;
    let [to, from] = [header.destination, header.source].map(mac);
    Some(format!("Ethernet {from} > {to} type {:#06x}", header.ether_type.0))
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn tag(tag: &LaxLinkExtSlice<'_>) -> Option<String> {
    match tag {
        LaxLinkExtSlice::Vlan(vlan) => Some(format!(
            "VLAN {} priority {} type {:#06x}",
            vlan.vlan_identifier().value(),
            vlan.priority_code_point().value(),
            vlan.ether_type().0
        )),
        LaxLinkExtSlice::Macsec(_) => Some("MACsec".to_owned()),
    }
}

/// The IP header and what follows it.
fn network(packet: &LaxSlicedPacket<'_>, tunnels: &[(u16, Tunnel)], depth: usize, lines: &mut Vec<String>) {
    let Some(payload) = ip(packet, lines) else { return };
    let Some(transport) = &packet.transport else {
        return if [IpNumber::IPV4, IpNumber::IPV6].contains(&payload.0) {
            within(payload.1, tunnels, depth, lines);
        };
    };
    match transport {
        TransportSlice::Tcp(tcp) => lines.push(tcp_line(tcp)),
        TransportSlice::Udp(udp) => {
            let [from, to] = [udp.source_port(), udp.destination_port()];
            lines.push(format!("UDP {from} > {to} length {}", udp.length()));
            let inner = tunnels.iter().find(|(port, _)| *port == to);
            if let Some(inner) = inner.and_then(|(_, tunnel)| unwrapped(*tunnel, udp.payload(), lines)) {
                within(inner, tunnels, depth, lines);
            }
        }
        TransportSlice::Icmpv4(icmp) => {
            let [kind, code] = [icmp.type_u8(), icmp.code_u8()];
            lines.push(format!("ICMP type {kind} code {code} {:?}", icmp.icmp_type()));
            if matches!(icmp.type_u8(), 3 | 11 | 12) {
                within(icmp.payload(), tunnels, depth, lines);
            }
        }
        TransportSlice::Icmpv6(icmp) => {
            let [kind, code] = [icmp.type_u8(), icmp.code_u8()];
            lines.push(format!("ICMPv6 type {kind} code {code} {:?}", icmp.icmp_type()));
            if (1..=4).contains(&icmp.type_u8()) {
                within(icmp.payload(), tunnels, depth, lines);
            }
        }
        TransportSlice::Igmp(_) => lines.push("IGMP".to_owned()),
    }
}

/// A packet within another.
fn within(bytes: &[u8], tunnels: &[(u16, Tunnel)], depth: usize, lines: &mut Vec<String>) {
    match LaxSlicedPacket::from_ip(bytes) {
        Ok(inner) if depth > 1 => network(&inner, tunnels, depth - 1, lines),
        Ok(_) => {}
        Err(error) => lines.push(format!("no IP header: {error}")),
    }
}

fn unwrapped<'a>(tunnel: Tunnel, payload: &'a [u8], lines: &mut Vec<String>) -> Option<&'a [u8]> {
    match tunnel {
        Tunnel::Gue => Some(payload),
        Tunnel::Geneve => {
            let options = usize::from(payload.first()? & 0x3f) * 4;
            lines.push(format!("Geneve with {options} bytes of options"));
            payload.get(GENEVE + options..)
        }
    }
}

/// Says what the IP header says; what follows it, and its number.
fn ip<'a>(packet: &LaxSlicedPacket<'a>, lines: &mut Vec<String>) -> Option<(IpNumber, &'a [u8])> {
    match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ipv4) => {
            lines.push(ipv4_line(&ipv4.header()));
            Some((ipv4.payload().ip_number, ipv4.payload().payload))
        }
        LaxNetSlice::Ipv6(ipv6) => {
            lines.push(ipv6_line(&ipv6.header()));
            lines.extend(ipv6.is_payload_fragmented().then(|| "IPv6 fragment".to_owned()));
            Some((ipv6.payload().ip_number, ipv6.payload().payload))
        }
        LaxNetSlice::Arp(_) => {
            lines.push("ARP".to_owned());
            None
        }
    }
}

fn ipv4_line(header: &Ipv4HeaderSlice<'_>) -> String {
    let mut line = format!(
        "IPv4 {} > {} protocol {} ttl {} length {}",
        header.source_addr(),
        header.destination_addr(),
        header.protocol().0,
        header.ttl(),
        header.total_len(),
    );
    let options = header.options().len();
    // A String takes all that is written.
    let _ = match (options, header.is_fragmenting_payload()) {
        (0, false) => Ok(()),
        (_, false) => write!(line, " options {options}"),
        (_, true) => write!(
            line,
            " options {options} fragment {:#06x} offset {}{}",
            header.identification(),
            u32::from(header.fragments_offset().value()) * 8,
            if header.more_fragments() { " more follow" } else { "" }
        ),
    };
    line
}

fn ipv6_line(header: &Ipv6HeaderSlice<'_>) -> String {
    format!(
        "IPv6 {} > {} next {} hops {} payload {}",
        header.source_addr(),
        header.destination_addr(),
        header.next_header().0,
        header.hop_limit(),
        header.payload_length(),
    )
}

fn tcp_line(tcp: &TcpSlice<'_>) -> String {
    let flags = [
        (tcp.syn(), "SYN"),
        (tcp.ack(), "ACK"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.urg(), "URG"),
    ];
    let flags: Vec<_> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    format!(
        "TCP {} > {} [{}] seq {} ack {}",
        tcp.source_port(),
        tcp.destination_port(),
        flags.join(" "),
        tcp.sequence_number(),
        tcp.acknowledgment_number(),
    )
}
