//! Echo requests to VIPs are answered, whole replies compared; all others are the host's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use etherparse::{Icmpv6Slice, Ipv4HeaderSlice, PacketBuilder, checksum};
use mesh_common::icmp::ANSWERS_PER_TICK;
use mesh_common::outcome::Outcome;
use mesh_tests::lab::{Lab, SEED, SIZES, Verdict};
use mesh_userspace::dataplane::kernel::Choices;
use mesh_userspace::dataplane::{Dataplane as _, Op};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::frame::{ETHERNET, Frame, garbage};
use crate::vlan::{TAGS, tagged};
use crate::world::{Expected, Way, World, opening, services, xdp};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

/// A VIP of each family.
fn vips() -> [IpAddr; 2] {
    [services()[0].vip.addr(), services()[2].vip.addr()]
}

fn client(vip: IpAddr) -> IpAddr {
    if vip.is_ipv4() { [198, 51, 100, 7].into() } else { "2001:db8:1::7".parse().unwrap() }
}

/// An echo message with this much data.
fn message(macs: [[u8; 6]; 2], from: IpAddr, to: IpAddr, hops: u8, is_reply: bool, data: &[u8]) -> Vec<u8> {
    let [source, destination] = macs;
    let mut packet = Vec::new();
    let ethernet = PacketBuilder::ethernet2(source, destination);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ip = ethernet.ipv4(from.octets(), to.octets(), hops);
            let icmp = if is_reply { ip.icmpv4_echo_reply(7, 9) } else { ip.icmpv4_echo_request(7, 9) };
            icmp.write(&mut packet, data).unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ip = ethernet.ipv6(from.octets(), to.octets(), hops);
            let icmp = if is_reply { ip.icmpv6_echo_reply(7, 9) } else { ip.icmpv6_echo_request(7, 9) };
            icmp.write(&mut packet, data).unwrap();
        }
        _ => unreachable!("a packet has one family"),
    }
    packet
}

/// A client's request with so many bytes of data.
pub(crate) fn request(vip: IpAddr, data: usize) -> Vec<u8> {
    message([ROUTER, HOST], client(vip), vip, 9, false, &garbage(data))
}

/// The reply to it.
pub(crate) fn reply(vip: IpAddr, data: usize) -> Vec<u8> {
    message([HOST, ROUTER], vip, client(vip), 64, true, &garbage(data))
}

pub(crate) fn answered(packet: Vec<u8>) -> Verdict<Outcome> {
    Verdict { action: xdp::TX, packet, moved: [(Outcome::EchoAnswered, 1)].into() }
}

/// Sends requests until no more are answered in this tick, on a CPU that the thread stays on.
pub(crate) fn exhaust(world: &mut World) {
    let mut cpu = CpuSet::new();
    cpu.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
    // From the beginning of a tick on, so that it does not end on the way.
    let before = world.lab.now().unwrap();
    while world.lab.now().unwrap() == before {
        std::thread::yield_now();
    }
    let packet = request(vips()[0], 4);
    for _ in 0..ANSWERS_PER_TICK {
        assert_eq!(world.lab.send(&packet).unwrap().0, xdp::TX);
    }
}

#[test]
fn requests_to_vips_of_both_families_are_answered() {
    let mut world = World::new(Way::Ipv4);
    for vip in vips() {
        for data in [0, 1, 4, 56, 57, 1400, 8000] {
            let verdict = world.lab.run(&request(vip, data)).unwrap();
            assert_eq!(verdict, answered(reply(vip, data)), "{vip}, {data} bytes");
        }
        let padded = |packet: Vec<u8>| [packet, garbage(18)].concat();
        let verdict = world.lab.run(&padded(request(vip, 0))).unwrap();
        assert_eq!(verdict, answered(padded(reply(vip, 0))), "{vip}, padding stays");
        for tags in TAGS {
            let verdict = world.lab.run(&tagged(&request(vip, 56), tags)).unwrap();
            assert_eq!(verdict, answered(tagged(&reply(vip, 56), tags)), "{vip}, tagged {tags:?}");
        }
    }
}

#[test]
fn every_reply_has_a_right_checksum() {
    let mut world = World::new(Way::L2);
    for number in (0..=0xffff_u16).step_by(0x0707 / 2) {
        for vip in vips() {
            let data = number.to_be_bytes();
            let asked = message([ROUTER, HOST], client(vip), vip, number.to_le_bytes()[0], false, &data);
            let verdict = world.lab.run(&asked).unwrap();
            let ip = &verdict.packet[ETHERNET..];
            if vip.is_ipv4() {
                let header = Ipv4HeaderSlice::from_slice(ip).unwrap().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum(), "{number}");
                let sum = checksum::Sum16BitWords::new().add_slice(&ip[20..]);
                assert_eq!(sum.ones_complement(), 0, "{number}");
            } else {
                let slice = Icmpv6Slice::from_slice(&ip[40..]).unwrap();
                let [source, destination] =
                    [&ip[8..24], &ip[24..40]].map(|address| address.try_into().unwrap());
                assert!(slice.is_checksum_valid(source, destination), "{number}");
            }
        }
    }
}

#[test]
fn requests_whose_lengths_lie_are_dropped() {
    let mut world = World::new(Way::L2);
    for vip in vips() {
        let whole = request(vip, 20);
        let (headers, field, less) = if vip.is_ipv4() { (28, 2, 0) } else { (48, 4, 40) };
        for cut in ETHERNET + headers..whole.len() {
            world.check("cut", &whole[..cut], &Expected::Kept(Outcome::BadLength));
        }
        for cut in ETHERNET..ETHERNET + headers {
            world.check("cut in its headers", &whole[..cut], &Expected::Kept(Outcome::Truncated));
        }
        let right = whole.len() - ETHERNET;
        for length in (less..headers).chain([right + 1, right + 1000, 0xffff]) {
            let mut packet = whole.clone();
            let at = ETHERNET + field;
            packet[at..at + 2].copy_from_slice(&u16::try_from(length - less).unwrap().to_be_bytes());
            world.check(&format!("length {length}"), &packet, &Expected::Kept(Outcome::BadLength));
        }
    }
}

#[test]
fn what_is_no_request_from_a_host_to_a_vip_is_the_hosts() {
    let mut world = World::new(Way::L2);
    let kept = |world: &mut World, about: &str, packet: &[u8]| {
        world.check(about, packet, &Expected::Kept(Outcome::OtherProtocol));
    };
    for vip in vips() {
        let from = |source: &str| message([ROUTER, HOST], source.parse().unwrap(), vip, 9, false, &[1]);
        let sources: &[&str] = if vip.is_ipv4() {
            &["0.0.0.0", "127.0.0.1", "239.1.1.1", "255.255.255.255"]
        } else {
            &["::", "::1", "ff02::1"]
        };
        for source in sources {
            kept(&mut world, source, &from(source));
        }
        let other = if vip.is_ipv4() { "192.0.2.11" } else { "2001:db8::11" }.parse().unwrap();
        kept(&mut world, "another address", &message([ROUTER, HOST], client(vip), other, 9, false, &[1]));
        kept(&mut world, "a reply", &message([ROUTER, HOST], client(vip), vip, 9, true, &[1]));
        kept(&mut world, "to a group", &message([ROUTER, [0xff; 6]], client(vip), vip, 9, false, &[1]));
        let at = ETHERNET + if vip.is_ipv4() { 20 } else { 40 };
        let mut coded = request(vip, 4);
        coded[at + 1] = 1;
        kept(&mut world, "a code", &coded);
    }
}

#[test]
fn requests_with_options_or_extension_headers_are_the_hosts() {
    let mut world = World::new(Way::L2);
    let [v4, v6] = [0, 2].map(|at| opening(&services()[at]));
    let optioned = Frame { options: 8, ..v4 };
    let extended = Frame { extensions: vec![(60, 8)], ..v6 };
    for (frame, number, protocol, kind) in [(optioned, 9, 1, 8), (extended, 40, 58, 128)] {
        let mut packet = frame.bytes();
        packet[ETHERNET + number] = protocol;
        let at = ETHERNET + frame.ip_headers();
        packet[at..at + 2].copy_from_slice(&[kind, 0]);
        world.check("not plain", &packet, &Expected::Kept(Outcome::OtherProtocol));
    }
}

#[test]
fn no_more_requests_are_answered_than_the_limit_and_the_rest_is_dropped() {
    let mut world = World::new(Way::L2);
    exhaust(&mut world);
    for vip in vips() {
        world.check("one more", &request(vip, 4), &Expected::Kept(Outcome::EchoLimited));
    }
    // Errors have their own limit.
    let mut narrow = Way::L2.entry_at(100);
    narrow.service = 1;
    world.lab.backend(crate::world::BACKEND, narrow).unwrap();
    let long = Frame { payload: 100, ..opening(&services()[0]) };
    assert_eq!(world.lab.run(&long.bytes()).unwrap().moved, BTreeMap::from([(Outcome::TooBigTold, 1)]));
}

#[test]
fn a_vip_whose_services_are_gone_is_an_address_like_any_other() {
    let mut world = World::new(Way::L2);
    for vip in vips() {
        world.lab.kernel.apply(&Op::RemoveVip(vip.into())).unwrap();
        world.lab.kernel.apply(&Op::RemoveVip(vip.into())).unwrap();
        world.check("gone", &request(vip, 4), &Expected::Kept(Outcome::OtherProtocol));
        world.lab.kernel.apply(&Op::AddVip(vip.into())).unwrap();
        world.lab.kernel.apply(&Op::AddVip(vip.into())).unwrap();
        assert_eq!(world.lab.run(&request(vip, 4)).unwrap(), answered(reply(vip, 4)));
    }
    assert_eq!(world.lab.kernel.read().unwrap().vips, vips().map(Into::into).into());
}

#[test]
fn every_address_of_a_prefix_is_answered_for() {
    let mut world = World::new(Way::L2);
    let nets = [
        ("203.0.113.64/26", ["203.0.113.64", "203.0.113.127"], "203.0.113.128"),
        ("2001:db8:7::/48", ["2001:db8:7::", "2001:db8:7:ffff::1"], "2001:db8:8::1"),
    ];
    for (prefix, within, beyond) in nets {
        world.lab.kernel.apply(&Op::AddVip(prefix.parse().unwrap())).unwrap();
        for vip in within.map(|vip| vip.parse().unwrap()) {
            assert_eq!(world.lab.run(&request(vip, 4)).unwrap(), answered(reply(vip, 4)), "{vip}");
        }
        let beyond = request(beyond.parse().unwrap(), 4);
        world.check("beyond", &beyond, &Expected::Kept(Outcome::OtherProtocol));
    }
}

#[test]
fn a_balancer_that_is_told_not_to_answer_passes_requests() {
    let choices = Choices { seed: Some(SEED), answer_echo: false, next_program: None };
    let mut world = World { lab: Lab::prepared(SIZES, |_| Ok(choices)).unwrap() };
    for vip in vips() {
        world.lab.kernel.apply(&Op::AddVip(vip.into())).unwrap();
        let verdict = world.lab.run(&request(vip, 4)).unwrap();
        assert_eq!(verdict.moved, BTreeMap::from([(Outcome::OtherProtocol, 1)]));
        assert_eq!((verdict.action, verdict.packet), (xdp::PASS, request(vip, 4)));
    }
}
