//! Outer headers as the RFCs have them: IP and UDP made by etherparse, Geneve by hand (RFC 8926 §3.4).

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};
use mesh_common::hash::{flow4, flow6};
use mesh_tests::lab::SEED;

use crate::frame::{ETHERNET, Frame, Transport, ether_type, ethernet};

/// What stands between the outer IP header and the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    Nothing,
    /// A UDP header to this port.
    Gue(u16),
    /// A UDP header to this port, and a Geneve header.
    Geneve(u16),
}

/// An outer header from one address to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnel {
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source_mac: [u8; 6],
    pub(crate) source: IpAddr,
    /// How many of the lowest bits of the source, which are 0, come from the flow's hash.
    pub(crate) spread: u8,
    pub(crate) destination: IpAddr,
    pub(crate) between: Between,
}

/// The flow that a packet belongs to: its client, its service and the number of its transport protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) client: SocketAddr,
    pub(crate) service: SocketAddr,
    pub(crate) protocol: u8,
}

impl Flow {
    pub(crate) fn of(frame: &Frame) -> Self {
        let protocol = if frame.transport == Transport::Udp { 17 } else { 6 };
        Self { client: frame.source, service: frame.destination, protocol }
    }

    pub(crate) fn hash(&self) -> u64 {
        let port = self.client.port().to_be_bytes();
        match self.client.ip() {
            IpAddr::V4(address) => flow4(SEED, address.octets(), port),
            IpAddr::V6(address) => flow6(SEED, address.octets(), port),
        }
    }

    /// The lowest 20 bits of the hash.
    fn label(&self) -> Ipv6FlowLabel {
        Ipv6FlowLabel::try_new(u32::try_from(self.hash() & 0xf_ffff).unwrap()).unwrap()
    }
}

impl Tunnel {
    /// The whole frame; padding that was behind the inner packet stays behind it.
    pub(crate) fn wrap(&self, inner: &Frame) -> Vec<u8> {
        let padded = &inner.bytes()[ETHERNET..];
        let (packet, padding) = padded.split_at(inner.ip_length());
        [self.around(packet, inner.traffic_class, Flow::of(inner)), padding.to_vec()].concat()
    }

    /// The whole frame around an IP packet of a flow.
    pub(crate) fn around(&self, packet: &[u8], traffic_class: u8, flow: Flow) -> Vec<u8> {
        let inner_is_ipv4 = packet[0] >> 4 == 4;
        let between = self.between(packet.len(), flow);
        let number = match (self.between, inner_is_ipv4) {
            (Between::Gue(_) | Between::Geneve(_), _) => IpNumber::UDP,
            (Between::Nothing, true) => IpNumber::IPV4,
            (Between::Nothing, false) => IpNumber::IPV6,
        };
        let length = u16::try_from(between.len() + packet.len()).unwrap();
        let ethernet = ethernet(self.destination_mac, self.source_mac, ether_type(self.source));
        [ethernet, self.outer(length, traffic_class, number, flow), between, packet.to_vec()].concat()
    }

    fn outer(&self, length: u16, traffic_class: u8, number: IpNumber, flow: Flow) -> Vec<u8> {
        // From the hash's middle; no bits but those of the spread.
        let suffix = (flow.hash() >> 16) & ((1 << self.spread) - 1);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let source = (source.to_bits() | u32::try_from(suffix).unwrap()).to_be_bytes();
                let mut header = Ipv4Header::new(length, 64, number, source, destination.octets()).unwrap();
                header.dscp = (traffic_class >> 2).try_into().unwrap();
                header.ecn = (traffic_class & 3).try_into().unwrap();
                header.identification = 0;
                header.dont_fragment = true;
                header.header_checksum = header.calc_header_checksum();
                header.to_bytes().to_vec()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class,
                    flow_label: flow.label(),
                    payload_length: length,
                    next_header: number,
                    hop_limit: 64,
                    source: (source.to_bits() | u128::from(suffix)).to_be_bytes(),
                    destination: destination.octets(),
                };
                header.to_bytes().to_vec()
            }
            _ => unreachable!("an outer header has one family"),
        }
    }

    fn between(&self, packet: usize, flow: Flow) -> Vec<u8> {
        let (destination_port, more) = match self.between {
            Between::Nothing => return Vec::new(),
            Between::Gue(port) => (port, Vec::new()),
            Between::Geneve(port) => (port, geneve(flow)),
        };
        let length = u16::try_from(8 + more.len() + packet).unwrap();
        let source_port = 0xc000 | u16::try_from(flow.hash() & 0x3fff).unwrap();
        let header = UdpHeader { source_port, destination_port, length, checksum: 0 };
        [header.to_bytes().to_vec(), more].concat()
    }
}

/// Version 0, words of options, no bits; the type of what follows; virtual network 0; one option of class 0xffff and
/// type 1 with VIP, port and protocol.
fn geneve(flow: Flow) -> Vec<u8> {
    let vip = match flow.service.ip() {
        IpAddr::V4(vip) => vip.octets().to_vec(),
        IpAddr::V6(vip) => vip.octets().to_vec(),
    };
    let EtherType(kind) = ether_type(flow.service.ip());
    let data = [&vip[..], &flow.service.port().to_be_bytes(), &[flow.protocol, 0]].concat();
    let words = u8::try_from(data.len() / 4).unwrap();
    [&[1 + words, 0][..], &kind.to_be_bytes(), &[0, 0, 0, 0], &[0xff, 0xff, 1, words], &data].concat()
}
