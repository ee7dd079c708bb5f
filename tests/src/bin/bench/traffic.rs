//! Packets of a case: the frame, and how the wrapper varies it.

use std::net::IpAddr;

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use mesh_common::abi::{halves, protocol};
use mesh_common::bench::{Traffic, vip_ending};
use mesh_common::encap::map_ipv4;
use mesh_common::tuple::Tuple;
use mesh_userspace::config::{Ports, Protocol, ServiceKey};

use crate::cases::{Case, Family, Packets, Way};

/// Bytes of payload: the frames are then between 114 and 146 bytes long.
const PAYLOAD: [u8; 72] = [0xa5; 72];

/// The service with a number that a case's packets go to. Each family, protocol and way has its own port.
pub(crate) fn service(case: &Case, number: u16) -> ServiceKey {
    let [first, second] = vip_ending(number);
    let vip = match case.family {
        Family::V4 => IpAddr::from([192, 168, first, second]),
        Family::V6 => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, first, second]),
    };
    let port = match case.way {
        Way::L2 => 8002,
        Way::Outer(Family::V4) => 8004,
        Way::Outer(Family::V6) => 8006,
        Way::Gue => 8008,
        Way::Geneve => 8010,
        Way::Prefix => 8012,
        Way::Tell => 8014,
        Way::Nat => 8016,
    };
    let key = ServiceKey::exact(vip, port, case.protocol);
    if case.wide { ServiceKey { ports: ranged(key), ..key } } else { key }
}

/// A thousand ports beyond those of the exact services, one of them for each.
fn ranged(key: ServiceKey) -> Ports {
    Ports::range(key.ports.first() + 1000, key.ports.first() + 1999).unwrap_or(key.ports)
}

/// Where answers come from, but for the last two bytes, and where they go to first.
const REPLY: [[u8; 4]; 2] = [[10, 2, 0, 0], [10, 1, 0, 9]];

/// The five-tuple of a flow's answer, and what it becomes.
pub(crate) fn reply(case: &Case, flow: u64) -> Result<[Tuple; 2]> {
    let traffic = Traffic { flow, ..of(case)? };
    let bytes: Vec<u8> = traffic.headers().iter().flat_map(|word| word.to_le_bytes()).collect();
    let part = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().context("too short");
    let port = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().context("too short");
    let came = Tuple {
        source: halves(map_ipv4(part(12)?)),
        destination: halves(map_ipv4(part(16)?)),
        source_port: u16::from_ne_bytes(port(20)?),
        destination_port: u16::from_ne_bytes(port(22)?),
        protocol: protocol::UDP,
        reserved: [0; 3],
    };
    // To a client that is told from others as the backend is.
    let client = Tuple { source: halves(map_ipv4([192, 168, 0, 0])), destination: came.source, ..came };
    Ok([came, Tuple { source_port: came.destination_port, destination_port: came.source_port, ..client }])
}

/// The traffic of a case.
pub(crate) fn of(case: &Case) -> Result<Traffic> {
    let family = match case.family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let frame = frame(case, service(case, 0))?;
    Traffic::new(family, &frame, case.flows, case.visited.into()).context("the frame is too short")
}

fn frame(case: &Case, service: ServiceKey) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x11], [2, 0, 0, 0, 0, 0xaa]);
    let ip = match service.vip.addr() {
        IpAddr::V4(vip) => ethernet.ipv4([10, 0, 0, 0], vip.octets(), 64),
        IpAddr::V6(vip) => {
            ethernet.ipv6([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], vip.octets(), 64)
        }
    };
    let (mut frame, port) = (Vec::new(), service.ports.first());
    if let Packets::Replies = case.packets {
        let ip = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x11], [2, 0, 0, 0, 0, 0xaa]);
        let [source, destination] = REPLY;
        ip.ipv4(source, destination, 64).udp(0, port).write(&mut frame, &PAYLOAD)?;
        return Ok(frame);
    }
    match (case.protocol, case.packets) {
        (Protocol::Udp | Protocol::Quic | Protocol::Any, _) | (_, Packets::Replies) => {
            ip.udp(0, port).write(&mut frame, &PAYLOAD)?
        }
        (Protocol::Tcp, Packets::Established) => {
            ip.tcp(0, port, 1, 1000).ack(1).write(&mut frame, &PAYLOAD)?;
        }
        (Protocol::Tcp, Packets::Syns) => ip.tcp(0, port, 1, 1000).syn().write(&mut frame, &PAYLOAD)?,
    }
    Ok(frame)
}
