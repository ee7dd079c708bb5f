//! Frames of up to 64 KiB in many buffers, as generic XDP gets them where a sender's offload or a receiver's makes them.

use mesh_common::outcome::Outcome;
use mesh_tests::lab::Verdict;
use mesh_userspace::config::ServiceKey;

use crate::echo;
use crate::frame::Frame;
use crate::icmp::told;
use crate::vlan::{TAGS, tagged};
use crate::world::{Expected, Way, World, assert_same, opening, services, xdp};

/// The longest packet that a length field of IPv4 allows, and the largest MTU.
const LONGEST: u16 = u16::MAX;

/// A packet of a service that is so long with its IP header.
fn packet(service: &ServiceKey, length: usize) -> Frame {
    let frame = opening(service);
    Frame { payload: length - frame.headers(), ..frame }
}

#[test]
fn the_longest_packets_are_sent_whole_where_they_fit() {
    for way in Way::ALL {
        let mut world = World::with(way.entry_at(LONGEST - 1));
        for service in services() {
            let room = usize::from(LONGEST - 1) - way.overhead(false);
            for length in [9001, 20_000, room - 1, room] {
                let frame = packet(&service, length);
                let about = format!("{way:?}, {service:?}, {length} bytes");
                world.check_sent(&about, way, Outcome::Transmitted, &frame);
                let verdict = world.lab.run(&tagged(&frame.bytes(), TAGS[3])).unwrap();
                assert_eq!(verdict.action, xdp::TX);
                assert_same(&about, &verdict.packet, &tagged(&way.expected(&frame), TAGS[3]));
            }
        }
    }
}

#[test]
fn senders_of_packets_far_too_long_are_told_the_right_size() {
    for way in Way::ALL {
        let mut world = World::with(way.entry_at(1500));
        let mtu = 1500 - u16::try_from(way.overhead(false)).unwrap();
        for service in services() {
            for length in [1501, 4000, 20_000, usize::from(LONGEST)] {
                let frame = packet(&service, length);
                let verdict = world.lab.run(&frame.bytes()).unwrap();
                let moved = [(Outcome::TooBigTold, 1)].into();
                let expected = Verdict { action: xdp::TX, packet: told(&frame, mtu), moved };
                assert_eq!(verdict, expected, "{way:?}, {service:?}, {length} bytes");
            }
        }
    }
}

#[test]
fn packets_far_too_long_of_senders_that_cannot_be_told_are_dropped_as_they_are() {
    for way in Way::ALL {
        let mut world = World::with(way.entry_at(1500));
        for service in &services()[..2] {
            let frame = Frame { dont_fragment: false, ..packet(service, usize::from(LONGEST)) };
            world.check(&format!("{way:?}"), &frame.bytes(), &Expected::Kept(Outcome::TooBig));
        }
    }
}

#[test]
fn a_packet_whose_length_takes_more_than_16_bits_fits_nowhere() {
    for way in Way::ALL {
        let mut world = World::with(way.entry_at(LONGEST - 1));
        for service in &services()[2..] {
            // The payload's length still has 16 bits.
            let frame = packet(service, usize::from(LONGEST) + 40);
            let verdict = world.lab.run(&frame.bytes()).unwrap();
            assert_eq!(verdict.moved, [(Outcome::TooBigTold, 1)].into(), "{way:?}, {service:?}");
        }
    }
}

#[test]
fn lengths_of_zero_as_kernels_give_to_packets_beyond_64_kib_are_dropped() {
    let mut world = World::with(Way::L2.entry_at(LONGEST - 1));
    for service in services() {
        let mut frame = packet(&service, 60_000).bytes();
        let at = if service.vip.addr().is_ipv4() { 16 } else { 18 };
        frame[at..at + 2].copy_from_slice(&[0; 2]);
        world.check(&format!("{service:?}"), &frame, &Expected::Kept(Outcome::BadLength));
    }
}

#[test]
fn long_echo_requests_are_answered() {
    let mut world = World::new(Way::L2);
    for service in [&services()[0], &services()[2]] {
        let verdict = world.lab.run(&echo::request(service.vip.addr(), 60_000)).unwrap();
        assert_eq!(verdict, echo::answered(echo::reply(service.vip.addr(), 60_000)));
    }
}
