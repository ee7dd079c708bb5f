//! What packets become, put together from scratch by etherparse (RFC 7915), and never by the code under test.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};

use crate::frame::{ETHERNET, Frame, ether_type, ethernet};

/// Whom a packet comes from, and whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Ends {
    pub(crate) fn of(frame: &Frame) -> Self {
        Self { source: frame.source, destination: frame.destination }
    }

    pub(crate) const fn turned(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    pub(crate) const fn is_ipv4(self) -> bool {
        self.destination.is_ipv4()
    }
}

/// The Ethernet addresses of what is sent: destination and source.
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xb1], [2, 0, 0, 0, 0, 0xb2]];

/// Longest IPv4 packet out of IPv6 that may be fragmented.
const FRAGMENTABLE: usize = 1260;

/// The frame that this one becomes; its identification is 0 where that is one by chance.
pub(crate) fn translated(frame: &Frame, to: Ends) -> Frame {
    let [destination_mac, source_mac] = MACS;
    let Ends { source, destination } = to;
    let hops = frame.hops - 1;
    let kept = Frame { destination_mac, source_mac, source, destination, hops, ..frame.clone() };
    if Ends::of(frame).is_ipv4() == to.is_ipv4() {
        return kept;
    }
    let bare = Frame { options: 0, extensions: Vec::new(), id: 0, ..kept };
    let dont_fragment = bare.ip_length() > FRAGMENTABLE;
    Frame { dont_fragment, ..bare }
}

/// The frame with an identification if it has one by chance: that of `sent`.
pub(crate) fn with_chance(frame: &Frame, to: Ends, sent: &[u8]) -> Frame {
    let becomes = translated(frame, to);
    if frame.source.is_ipv4() || !to.is_ipv4() || becomes.dont_fragment {
        return becomes;
    }
    let id = u16::from_be_bytes([sent[ETHERNET + 4], sent[ETHERNET + 5]]);
    Frame { id, ..becomes }
}

/// An ICMP error: its type, its code, and what stands behind its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said(pub(crate) u8, pub(crate) u8, pub(crate) [u8; 4]);

/// A frame with an ICMP error to somebody, about the packet that these bytes begin.
pub(crate) fn error(
    [destination_mac, source_mac]: [[u8; 6]; 2],
    [source, destination]: [IpAddr; 2],
    (traffic_class, hops): (u8, u8),
    said: Said,
    quoted: &[u8],
) -> Vec<u8> {
    let Said(kind, code, rest) = said;
    let length = u16::try_from(8 + quoted.len()).unwrap();
    let mut sum = Sum16BitWords::new().add_2bytes([kind, code]).add_4bytes(rest).add_slice(quoted);
    let mut frame = ethernet(destination_mac, source_mac, ether_type(destination));
    let sum = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [source, destination] = [source, destination].map(|address| address.octets());
            let mut header = Ipv4Header::new(length, hops, IpNumber::ICMP, source, destination).unwrap();
            header.dscp = (traffic_class >> 2).try_into().unwrap();
            header.ecn = (traffic_class & 3).try_into().unwrap();
            header.dont_fragment = false;
            header.fragment_offset = IpFragOffset::ZERO;
            header.header_checksum = header.calc_header_checksum();
            frame.extend(header.to_bytes());
            sum
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [source, destination] = [source, destination].map(|address| address.octets());
            let header = Ipv6Header {
                traffic_class,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: length,
                next_header: IpNumber::IPV6_ICMP,
                hop_limit: hops,
                source,
                destination,
            };
            frame.extend(header.to_bytes());
            sum.add_16bytes(source)
                .add_16bytes(destination)
                .add_2bytes(length.to_be_bytes())
                .add_2bytes([0, 58])
        }
        _ => unreachable!("a packet has one family"),
    };
    frame.extend([kind, code]);
    frame.extend(sum.ones_complement().to_ne_bytes());
    frame.extend(rest);
    frame.extend(quoted);
    frame
}

/// The first bytes of the packet in a frame, of which an error quotes the IP header without more and 64 bits.
pub(crate) fn quoted(frame: &Frame) -> Vec<u8> {
    let ip = if frame.source.is_ipv4() { 20 } else { 40 };
    frame.bytes()[ETHERNET..ETHERNET + ip + 8].to_vec()
}
