//! Outer headers as the RFCs have them, made by etherparse.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};
use mesh_common::hash::{flow4, flow6};
use mesh_tests::lab::SEED;

use crate::frame::{ETHERNET, Frame, ether_type, ethernet};

/// The IP packet of a frame behind an outer header from one address to another.
pub(crate) struct Tunnel {
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source_mac: [u8; 6],
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Tunnel {
    /// The whole frame; padding that was behind the inner packet stays behind it.
    pub(crate) fn wrap(&self, inner: &Frame) -> Vec<u8> {
        self.wrap_packet(inner, inner.ip_length(), &inner.bytes()[ETHERNET..])
    }

    /// The whole frame around any packet of the flow that `inner` is of, of this length but for padding.
    pub(crate) fn wrap_packet(&self, inner: &Frame, length: usize, packet: &[u8]) -> Vec<u8> {
        let mut bytes = ethernet(self.destination_mac, self.source_mac, ether_type(self.source));
        bytes.extend(self.outer(inner, length));
        bytes.extend_from_slice(packet);
        bytes
    }

    fn outer(&self, inner: &Frame, length: usize) -> Vec<u8> {
        let length = u16::try_from(length).unwrap();
        let number = if inner.source.is_ipv4() { IpNumber::IPV4 } else { IpNumber::IPV6 };
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [source, destination] = [source, destination].map(|address| address.octets());
                let mut header = Ipv4Header::new(length, 64, number, source, destination).unwrap();
                header.dscp = (inner.traffic_class >> 2).try_into().unwrap();
                header.ecn = (inner.traffic_class & 3).try_into().unwrap();
                header.identification = 0;
                header.dont_fragment = true;
                header.header_checksum = header.calc_header_checksum();
                header.to_bytes().to_vec()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: inner.traffic_class,
                    flow_label: label(inner),
                    payload_length: length,
                    next_header: number,
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                header.to_bytes().to_vec()
            }
            _ => unreachable!("an outer header has one family"),
        }
    }
}

/// The lowest 20 bits of the flow's hash.
fn label(inner: &Frame) -> Ipv6FlowLabel {
    let port = inner.source.port().to_be_bytes();
    let hash = match inner.source.ip() {
        IpAddr::V4(address) => flow4(SEED, address.octets(), port),
        IpAddr::V6(address) => flow6(SEED, address.octets(), port),
    };
    Ipv6FlowLabel::try_new(u32::try_from(hash & 0xf_ffff).unwrap()).unwrap()
}
