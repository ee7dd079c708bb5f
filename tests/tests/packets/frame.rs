//! Clients' packets, described by their fields and made by etherparse.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
};

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp(Flags),
    Udp,
    /// The payload of another protocol, by its number.
    Other(u8),
}

/// The flags of a TCP segment that say what becomes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    Syn,
    SynAck,
    Ack,
    FinAck,
    Rst,
}

/// A frame with a packet in it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source_mac: [u8; 6],
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) transport: Transport,
    /// TTL or hop limit.
    pub(crate) hops: u8,
    /// TOS or traffic class.
    pub(crate) traffic_class: u8,
    /// IPv4 only, as are the next three: bytes of options, a multiple of 4.
    pub(crate) options: usize,
    pub(crate) dont_fragment: bool,
    pub(crate) more_fragments: bool,
    /// In units of 8 bytes.
    pub(crate) fragment_offset: u16,
    /// IPv6 only: number and bytes, a multiple of 8, of each extension header; an atomic fragment's has 8.
    pub(crate) extensions: Vec<(u8, usize)>,
    /// IPv4's identification, IPv6's flow label.
    pub(crate) id: u16,
    /// What stands behind the transport header, before the payload.
    pub(crate) content: Vec<u8>,
    /// Bytes of the payload, which is garbage.
    pub(crate) payload: usize,
    /// Bytes behind the IP packet: what Ethernet pads short frames with.
    pub(crate) padding: usize,
}

impl Frame {
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            destination_mac: [2, 0, 0, 0, 0, 0xaa],
            source_mac: [2, 0, 0, 0, 0, 0x11],
            source,
            destination,
            transport,
            hops: 64,
            traffic_class: 0,
            options: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            extensions: Vec::new(),
            id: 0x1234,
            content: Vec::new(),
            payload: 0,
            padding: 0,
        }
    }

    /// The whole frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = ethernet(self.destination_mac, self.source_mac, ether_type(self.source.ip()));
        bytes.extend(self.ip());
        bytes.extend(garbage(self.padding));
        bytes
    }

    /// Bytes from the IP header on, without padding.
    pub(crate) fn ip_length(&self) -> usize {
        self.headers() + self.content.len() + self.payload
    }

    /// Bytes of the IP and transport headers.
    pub(crate) fn headers(&self) -> usize {
        self.ip_headers()
            + match self.transport {
                Transport::Tcp(_) => 20,
                Transport::Udp => 8,
                Transport::Other(_) => 0,
            }
    }

    /// Bytes of the IP header, options or extension headers included.
    pub(crate) fn ip_headers(&self) -> usize {
        let extensions = self.extensions.iter().map(|(_, bytes)| bytes).sum::<usize>();
        if self.source.is_ipv4() { 20 + self.options } else { 40 + extensions }
    }

    /// The packet in fragments, each a frame, that carry so many bytes, a multiple of 8.
    pub(crate) fn fragments(&self, bytes: usize) -> Vec<Vec<u8>> {
        let payload = if self.source.is_ipv4() { self.segment() } else { self.behind_ipv6() };
        let parts = payload.chunks(bytes);
        let last = parts.len() - 1;
        let fragment = |(number, part): (usize, &[u8])| {
            let fragment_offset = u16::try_from(number * bytes / 8).unwrap();
            let (more_fragments, dont_fragment) = (number != last, false);
            let whole = self.clone();
            Self { more_fragments, fragment_offset, dont_fragment, ..whole }.fragment(part)
        };
        parts.enumerate().map(fragment).collect()
    }

    fn fragment(&self, part: &[u8]) -> Vec<u8> {
        let mut bytes = ethernet(self.destination_mac, self.source_mac, ether_type(self.source.ip()));
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend(self.ipv4(source.octets(), destination.octets(), part.len()));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let offset = IpFragOffset::try_new(self.fragment_offset).unwrap();
                let next = self.first_number();
                let header =
                    Ipv6FragmentHeader::new(next, offset, self.more_fragments, u32::from(self.id) << 8);
                let length = Ipv6FragmentHeader::LEN + part.len();
                bytes.extend(self.ipv6(
                    source.octets(),
                    destination.octets(),
                    length,
                    IpNumber::IPV6_FRAGMENTATION_HEADER,
                ));
                bytes.extend(header.to_bytes());
            }
            _ => unreachable!("a packet has one family"),
        }
        bytes.extend(part);
        bytes
    }

    fn ip(&self) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let segment = self.segment();
                [self.ipv4(source.octets(), destination.octets(), segment.len()), segment].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let behind = self.behind_ipv6();
                let number = self.first_number();
                [self.ipv6(source.octets(), destination.octets(), behind.len(), number), behind].concat()
            }
            _ => unreachable!("a packet has one family"),
        }
    }

    /// What the IPv6 header says to follow.
    fn first_number(&self) -> IpNumber {
        self.extensions.first().map_or(self.number(), |(number, _)| IpNumber(*number))
    }

    /// Extension headers, of padding, and the transport header with its payload.
    fn behind_ipv6(&self) -> Vec<u8> {
        let numbers = self.extensions.iter().skip(1).map(|(number, _)| *number);
        let numbers = numbers.chain([self.number().0]);
        let headers = self.extensions.iter().zip(numbers).flat_map(|((_, bytes), next)| {
            let mut header = vec![0; *bytes];
            header[0] = next;
            header[1] = u8::try_from(bytes / 8 - 1).unwrap();
            header
        });
        headers.chain(self.segment()).collect()
    }

    fn ipv4(&self, source: [u8; 4], destination: [u8; 4], payload: usize) -> Vec<u8> {
        let payload = u16::try_from(payload).unwrap();
        let mut header = Ipv4Header::new(payload, self.hops, self.number(), source, destination).unwrap();
        // No-operation, so that the options are valid however many there are.
        header.options = Ipv4Options::try_from(vec![1; self.options].as_slice()).unwrap();
        header.total_len = u16::try_from(header.header_len()).unwrap() + payload;
        header.dscp = (self.traffic_class >> 2).try_into().unwrap();
        header.ecn = (self.traffic_class & 3).try_into().unwrap();
        header.identification = self.id;
        header.dont_fragment = self.dont_fragment;
        header.more_fragments = self.more_fragments;
        header.fragment_offset = IpFragOffset::try_new(self.fragment_offset).unwrap();
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }

    fn ipv6(
        &self,
        source: [u8; 16],
        destination: [u8; 16],
        payload: usize,
        next_header: IpNumber,
    ) -> Vec<u8> {
        let header = Ipv6Header {
            traffic_class: self.traffic_class,
            flow_label: Ipv6FlowLabel::try_new(u32::from(self.id)).unwrap(),
            payload_length: u16::try_from(payload).unwrap(),
            next_header,
            hop_limit: self.hops,
            source,
            destination,
        };
        header.to_bytes().to_vec()
    }

    fn number(&self) -> IpNumber {
        match self.transport {
            Transport::Tcp(_) => IpNumber::TCP,
            Transport::Udp => IpNumber::UDP,
            Transport::Other(number) => IpNumber(number),
        }
    }

    fn segment(&self) -> Vec<u8> {
        let payload = [self.content.clone(), garbage(self.payload)].concat();
        let header = match self.transport {
            Transport::Tcp(flags) => self.tcp(flags, &payload),
            Transport::Udp => self.udp(&payload),
            Transport::Other(_) => Vec::new(),
        };
        [header, payload].concat()
    }

    fn tcp(&self, flags: Flags, payload: &[u8]) -> Vec<u8> {
        let mut header = TcpHeader::new(self.source.port(), self.destination.port(), 0x0102_0304, 1000);
        header.syn = matches!(flags, Flags::Syn | Flags::SynAck);
        header.ack = matches!(flags, Flags::SynAck | Flags::Ack | Flags::FinAck);
        header.fin = flags == Flags::FinAck;
        header.rst = flags == Flags::Rst;
        header.checksum = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).unwrap()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).unwrap()
            }
            _ => unreachable!("a packet has one family"),
        };
        header.to_bytes().to_vec()
    }

    fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let [source_port, destination_port] = [self.source.port(), self.destination.port()];
        let mut header = UdpHeader { source_port, destination_port, length, checksum: 0 };
        header.checksum = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).unwrap()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).unwrap()
            }
            _ => unreachable!("a packet has one family"),
        };
        header.to_bytes().to_vec()
    }
}

/// An Ethernet header.
pub(crate) fn ethernet(destination: [u8; 6], source: [u8; 6], ether_type: EtherType) -> Vec<u8> {
    Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec()
}

/// The Ethernet type of an address's family.
pub(crate) fn ether_type(address: IpAddr) -> EtherType {
    if address.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 }
}

/// Bytes that nothing expects, none of them zero.
pub(crate) fn garbage(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap() | 0x80).collect()
}
