//! What is not for a service passes untouched, whatever it is.

use std::net::{IpAddr, SocketAddr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use mesh_common::outcome::Outcome;
use mesh_userspace::config::ServiceKey;
use mesh_userspace::dataplane::{Dataplane as _, Op, abi_key};

use crate::frame::{ETHERNET, Frame, ethernet, garbage};
use crate::world::{Expected, Way, World, opening, services};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const VIP4: [u8; 4] = [192, 0, 2, 10];
const VIP6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
const CLIENT4: [u8; 4] = [198, 51, 100, 7];

type Case = (&'static str, Vec<u8>, Outcome);

fn check(cases: impl IntoIterator<Item = Case>) {
    let mut world = World::new(Way::Ipv4);
    for (about, input, outcome) in cases {
        world.check(about, &input, &Expected::Kept(outcome));
    }
}

/// The opening packets of the IPv4 and the IPv6 TCP service.
fn openings() -> [Frame; 2] {
    [opening(&services()[0]), opening(&services()[2])]
}

fn of_type(ether_type: EtherType, rest: &[u8]) -> Vec<u8> {
    [&ethernet(HOST, ROUTER, ether_type), rest].concat()
}

#[test]
fn what_is_not_ip_passes() {
    let [v4, v6] = openings().map(|frame| frame.bytes());
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &ROUTER,
        &CLIENT4,
        &[0; 6],
        &VIP4,
    );
    let mut request = Vec::new();
    PacketBuilder::ethernet2(ROUTER, [0xff; 6]).arp(arp.unwrap()).write(&mut request).unwrap();
    let request = request;
    let lldp = [&[2, 7, 4, 2, 0, 0, 0, 0, 1, 0, 0][..], &garbage(40)].concat();
    let tag = |tags: &[u8], frame: &[u8]| [&frame[..ETHERNET - 2], tags, &frame[ETHERNET - 2..]].concat();
    let thrice = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7];
    check([
        ("ARP for the VIP", request.clone(), Outcome::NotIp),
        ("LLDP", of_type(EtherType(0x88cc), &lldp), Outcome::NotIp),
        ("ARP for the VIP, tagged", tag(&[0x81, 0, 0, 5], &request), Outcome::NotIp),
        ("ARP for the VIP, tagged twice", tag(&thrice[..8], &request), Outcome::NotIp),
        ("IPv4, tagged three times", tag(&thrice, &v4), Outcome::NotIp),
        ("IPv6, tagged three times", tag(&thrice, &v6), Outcome::NotIp),
        ("nothing behind a tag", tag(&[0x81, 0, 0, 5], &v4)[..ETHERNET + 3].to_vec(), Outcome::NotIp),
        ("a length instead of a type", of_type(EtherType(60), &v4[ETHERNET..]), Outcome::NotIp),
        ("IPv4 with its type's bytes swapped", of_type(EtherType(0x0008), &v4[ETHERNET..]), Outcome::NotIp),
        ("nothing behind the Ethernet header", of_type(EtherType(0x88cc), &[]), Outcome::NotIp),
    ]);
}

#[test]
fn neighbour_discovery_passes() {
    let mut solicitation = Vec::new();
    let ipv6 = PacketBuilder::ethernet2(ROUTER, HOST).ipv6([0x20; 16], VIP6, 255);
    ipv6.icmpv6_raw(135, 0, [0; 4]).write(&mut solicitation, &VIP6).unwrap();
    check([("a neighbour solicitation for the VIP", solicitation, Outcome::OtherProtocol)]);
}

#[test]
fn every_other_protocol_of_a_vip_passes() {
    let mut world = World::new(Way::L2);
    // TCP and UDP, and what may stand before them in IPv6, are in other tests.
    let [v4, v6] = openings();
    for (frame, at, others) in [(v4, ETHERNET + 9, &[6, 17][..]), (v6, ETHERNET + 6, &[0, 6, 17, 43, 44, 60])]
    {
        for number in (0..=255u8).filter(|number| !others.contains(number)) {
            let mut packet = frame.bytes();
            packet[at] = number;
            let about = format!("protocol {number} to {}", frame.destination);
            world.check(&about, &packet, &Expected::Kept(Outcome::OtherProtocol));
        }
    }
}

#[test]
fn other_addresses_ports_and_protocols_pass() {
    let mut world = World::new(Way::L2);
    for service in services() {
        for (what, change) in others(&service) {
            let mut frame = opening(&service);
            change(&mut frame);
            let about = format!("{service:?}, {what}");
            world.check(&about, &frame.bytes(), &Expected::Kept(Outcome::NotAService));
        }
    }
}

type Change = Box<dyn Fn(&mut Frame)>;

fn others(service: &ServiceKey) -> Vec<(&'static str, Change)> {
    let (vip, port) = (service.vip.addr(), service.ports.first());
    let flipped = |bit: u32| match vip {
        IpAddr::V4(vip) => IpAddr::from((u32::from(vip) ^ 1 << (bit % 32)).to_be_bytes()),
        IpAddr::V6(vip) => IpAddr::from((u128::from(vip) ^ 1 << bit).to_be_bytes()),
    };
    let to = move |vip, port| -> Change { Box::new(move |f| f.destination = SocketAddr::new(vip, port)) };
    let addresses = [0, 7, 31, 64, 127].map(|bit| ("another address", to(flipped(bit), port)));
    let ports = [81, 0, 0x5000, 80 | 0x100].map(|port| ("another port", to(vip, port)));
    let reply: Change = Box::new(|f| (f.source, f.destination) = (f.destination, f.source));
    addresses.into_iter().chain(ports).chain([("from the VIP, not to it", reply)]).collect()
}

#[test]
fn a_service_that_is_gone_passes() {
    let mut world = World::new(Way::L2);
    for service in services() {
        world.check_sent("known", Way::L2, Outcome::Transmitted, &opening(&service));
        world.lab.kernel.apply(&Op::RemoveService(abi_key(service))).unwrap();
        world.check("unknown", &opening(&service).bytes(), &Expected::Kept(Outcome::NotAService));
    }
}

#[test]
fn a_protocol_that_is_not_served_at_the_port_passes() {
    for (gone, other) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        let mut world = World::new(Way::L2);
        world.lab.kernel.apply(&Op::RemoveService(abi_key(services()[gone]))).unwrap();
        let about = format!("only {:?} is there", services()[other]);
        world.check(&about, &opening(&services()[gone]).bytes(), &Expected::Kept(Outcome::NotAService));
        world.check_sent(&about, Way::L2, Outcome::Transmitted, &opening(&services()[other]));
    }
}
