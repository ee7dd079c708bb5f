//! The lab that most tests share: a service of each family and protocol, all with the same backend.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, Ipv4Header};
use mesh_common::abi::{BackendCounters, BackendEntry};
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, neighbour};
use mesh_userspace::config::{Forward, OuterSource, Protocol, ServiceKey};
use mesh_userspace::delivery::Delivery;

use crate::frame::{ETHERNET, Flags, Frame, Transport, ethernet};
use crate::tunnels::{Between, Flow, Tunnel};

/// The backend's id.
pub(crate) const BACKEND: u32 = 1;

/// Slots of each service.
pub(crate) const SLOTS: u32 = 7;

/// How the shared backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    L2,
    Ipv4,
    Ipv6,
    Gue4,
    Gue6,
    Geneve4,
    Geneve6,
}

impl Way {
    pub(crate) const ALL: [Self; 7] =
        [Self::L2, Self::Ipv4, Self::Ipv6, Self::Gue4, Self::Gue6, Self::Geneve4, Self::Geneve6];

    /// Those that put an outer header in front.
    pub(crate) fn wrapping() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|way| *way != Self::L2)
    }

    /// The backend's entry.
    pub(crate) fn entry(self) -> BackendEntry {
        self.entry_from(OuterSource::default())
    }

    /// The backend's entry behind a link of this MTU; there is room for what the larger family gains.
    pub(crate) fn entry_at(self, mtu: u16) -> BackendEntry {
        BackendEntry { room: mtu - u16::try_from(self.overhead(false)).unwrap(), ..self.entry() }
    }

    /// The backend's entry where outer sources are configured.
    pub(crate) fn entry_from(self, outer_source: OuterSource) -> BackendEntry {
        let [source, address] = self.addresses();
        neighbour(address, source, &Delivery { outer_source, ..Delivery::plain(self.forward()) })
    }

    const fn forward(self) -> Forward {
        match self {
            Self::L2 => Forward::L2,
            Self::Ipv4 | Self::Ipv6 => Forward::Ipip,
            Self::Gue4 | Self::Gue6 => Forward::Gue,
            Self::Geneve4 | Self::Geneve6 => Forward::Geneve,
        }
    }

    /// The outer header's source, and the backend's address.
    pub(crate) fn addresses(self) -> [IpAddr; 2] {
        let text = match self {
            Self::L2 | Self::Ipv4 | Self::Gue4 | Self::Geneve4 => ["10.0.0.9", "10.0.0.1"],
            Self::Ipv6 | Self::Gue6 | Self::Geneve6 => ["fd00::9", "fd00::1"],
        };
        text.map(|address| address.parse().unwrap())
    }

    /// What a packet of a family gains.
    pub(crate) const fn overhead(self, inner_is_ipv4: bool) -> usize {
        let geneve = 8 + 8 + 4 + if inner_is_ipv4 { 8 } else { 20 };
        match self {
            Self::L2 => 0,
            Self::Ipv4 => 20,
            Self::Ipv6 => 40,
            Self::Gue4 => 20 + 8,
            Self::Gue6 => 40 + 8,
            Self::Geneve4 => 20 + geneve,
            Self::Geneve6 => 40 + geneve,
        }
    }

    /// What is put in front of packets; `None`: nothing.
    pub(crate) fn tunnel(self) -> Option<Tunnel> {
        let BackendEntry { destination_mac, source_mac, .. } = self.entry();
        let [source, destination] = self.addresses();
        let between = match self {
            Self::L2 => return None,
            Self::Ipv4 | Self::Ipv6 => Between::Nothing,
            Self::Gue4 | Self::Gue6 => Between::Gue(6080),
            Self::Geneve4 | Self::Geneve6 => Between::Geneve(6081),
        };
        Some(Tunnel { destination_mac, source_mac, source, spread: 0, destination, between })
    }

    /// Any packet of the flow that `frame` is of, without padding, as the backend's link must get it.
    pub(crate) fn expected_packet(self, frame: &Frame, packet: &[u8]) -> Vec<u8> {
        match self.tunnel() {
            None => at_neighbour(packet),
            Some(tunnel) => tunnel.around(&packet[ETHERNET..], frame.traffic_class, Flow::of(frame)),
        }
    }

    /// The packet as the backend's link must get it.
    pub(crate) fn expected(self, frame: &Frame) -> Vec<u8> {
        let BackendEntry { destination_mac, source_mac, .. } = self.entry();
        match self.tunnel() {
            None => Frame { destination_mac, source_mac, hops: frame.hops - 1, ..frame.clone() }.bytes(),
            Some(tunnel) => tunnel.wrap(frame),
        }
    }
}

/// The services; the first has id 1.
pub(crate) fn services() -> Vec<ServiceKey> {
    let all = [("192.0.2.10", Protocol::Tcp), ("192.0.2.10", Protocol::Udp)];
    let v6 = [("2001:db8::10", Protocol::Tcp), ("2001:db8::10", Protocol::Udp)];
    let key = |(vip, protocol): (&str, _)| ServiceKey::exact(vip.parse().unwrap(), 80, protocol);
    all.into_iter().chain(v6).map(key).collect()
}

/// A client's packet that begins a flow of a service, as far as its protocol has a beginning.
pub(crate) fn opening(service: &ServiceKey) -> Frame {
    let client = if service.vip.addr().is_ipv4() { "198.51.100.7" } else { "2001:db8:1::7" };
    let client = SocketAddr::new(client.parse().unwrap(), 4000);
    let transport = match service.protocol {
        Protocol::Tcp => Transport::Tcp(Flags::Syn),
        Protocol::Udp | Protocol::Quic | Protocol::Any => Transport::Udp,
    };
    Frame::new(client, SocketAddr::new(service.vip.addr(), service.ports.first()), transport)
}

/// What must become of a packet.
#[derive(Debug)]
pub(crate) enum Expected {
    /// Sent to the backend.
    Sent { by: Outcome, output: Vec<u8>, ip_length: usize, opens: bool },
    /// Passed or dropped, in any case as it was.
    Kept(Outcome),
}

/// The lab.
pub(crate) struct World {
    pub(crate) lab: Lab,
}

impl World {
    /// The backend is reached in this way, next to the ingress interface.
    pub(crate) fn new(way: Way) -> Self {
        Self::with(way.entry())
    }

    pub(crate) fn with(entry: BackendEntry) -> Self {
        Self::over(Lab::new().unwrap(), entry)
    }

    /// The services and the backend in a lab.
    pub(crate) fn over(mut lab: Lab, entry: BackendEntry) -> Self {
        lab.backend(BACKEND, entry).unwrap();
        for (id, key) in (1..).zip(services()) {
            lab.service(key, id, id * SLOTS, SLOTS, Slot::steady(BACKEND)).unwrap();
        }
        Self { lab }
    }

    /// Runs a packet and compares everything that can be seen of it.
    pub(crate) fn check(&mut self, about: &str, input: &[u8], expected: &Expected) {
        let before = self.lab.counters(BACKEND).unwrap();
        let verdict = self.lab.run(input).unwrap();
        let counted = self.lab.counters(BACKEND).unwrap().since(&before);
        let (outcome, output, counters) = match expected {
            Expected::Sent { by, output, ip_length, opens } => {
                let bytes = u64::try_from(*ip_length).unwrap();
                let [transmitted, redirected] =
                    [Outcome::Transmitted, Outcome::Redirected].map(|way| u64::from(way == *by));
                let new_flows = u64::from(*opens);
                let counters =
                    BackendCounters { transmitted, redirected, bytes, new_flows, ..Default::default() };
                (*by, output.as_slice(), counters)
            }
            Expected::Kept(outcome) => (*outcome, input, BackendCounters::default()),
        };
        assert_eq!(verdict.moved, BTreeMap::from([(outcome, 1)]), "{about}: the counter");
        assert_eq!(verdict.action, action(outcome), "{about}: the action");
        assert_same(about, &verdict.packet, output);
        assert_eq!(counted, counters, "{about}: the backend's counters");
    }

    /// Checks a frame that must be sent in this way.
    pub(crate) fn check_sent(&mut self, about: &str, way: Way, by: Outcome, frame: &Frame) {
        self.check_sent_as(about, way.expected(frame), by, frame);
    }

    /// Checks a frame that must be sent as these bytes.
    pub(crate) fn check_sent_as(&mut self, about: &str, output: Vec<u8>, by: Outcome, frame: &Frame) {
        let opens = frame.transport == Transport::Tcp(Flags::Syn);
        let expected = Expected::Sent { by, output, ip_length: frame.ip_length(), opens };
        self.check(about, &frame.bytes(), &expected);
    }
}

/// What the kernel calls the ends of programs (include/uapi/linux/bpf.h, `enum xdp_action`).
pub(crate) mod xdp {
    pub(crate) const DROP: u32 = 1;
    pub(crate) const PASS: u32 = 2;
    pub(crate) const TX: u32 = 3;
    pub(crate) const REDIRECT: u32 = 4;
}

/// What an outcome means for the kernel, written out once more.
pub(crate) fn action(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Transmitted
        | Outcome::ReplyTransmitted
        | Outcome::TooBigTold
        | Outcome::EchoAnswered
        | Outcome::SynCookie
        | Outcome::Rejected => xdp::TX,
        Outcome::Redirected | Outcome::ReplyRedirected => xdp::REDIRECT,
        Outcome::NotIp
        | Outcome::OtherProtocol
        | Outcome::NotAService
        | Outcome::Fragment
        | Outcome::TooManyHeaders
        | Outcome::Truncated
        | Outcome::Unhandled => xdp::PASS,
        Outcome::BadLength
        | Outcome::BadChecksum
        | Outcome::BadOptions
        | Outcome::BadFlags
        | Outcome::SpoofedSource
        | Outcome::TinyFragment
        | Outcome::OverlappingFragment
        | Outcome::OrphanFragment
        | Outcome::EchoLimited
        | Outcome::Denied
        | Outcome::NoBackend
        | Outcome::OverCap
        | Outcome::NoNextHop
        | Outcome::TooBig
        | Outcome::NotConnected
        | Outcome::Flooded
        | Outcome::PortsExhausted
        | Outcome::ConnectionsExhausted
        | Outcome::TtlExpired
        | Outcome::Untranslatable
        | Outcome::NoHeadroom => xdp::DROP,
    }
}

/// What a neighbour gets of an untagged IP packet: new Ethernet addresses and one hop less.
pub(crate) fn at_neighbour(input: &[u8]) -> Vec<u8> {
    let BackendEntry { destination_mac, source_mac, .. } = Way::L2.entry();
    let is_ipv4 = input[ETHERNET - 2..ETHERNET] == [8, 0];
    let ether_type = if is_ipv4 { EtherType::IPV4 } else { EtherType::IPV6 };
    let mut bytes = ethernet(destination_mac, source_mac, ether_type);
    bytes.extend_from_slice(&input[ETHERNET..]);
    if is_ipv4 {
        let (mut header, _) = Ipv4Header::from_slice(&bytes[ETHERNET..]).unwrap();
        header.time_to_live -= 1;
        header.header_checksum = header.calc_header_checksum();
        bytes[ETHERNET..ETHERNET + header.header_len()].copy_from_slice(&header.to_bytes());
    } else {
        bytes[ETHERNET + 7] -= 1;
    }
    bytes
}

/// Compares whole packets, and says where they differ.
pub(crate) fn assert_same(about: &str, got: &[u8], expected: &[u8]) {
    let at = got.iter().zip(expected).position(|(got, expected)| got != expected);
    let [long, wanted] = [got.len(), expected.len()];
    assert!(
        got == expected,
        "{about}: {long} bytes of {wanted}, differ at {at:?}\n{got:02x?}\n{expected:02x?}"
    );
}
