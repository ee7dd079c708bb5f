//! VLAN tags: one or two in front of any packet; kept where it came in, taken off where it goes elsewhere.

use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;
use mesh_tests::lab::{INGRESS, Verdict};

use crate::forwarding::variants;
use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::world::{Expected, Way, World, action, opening, services};

/// Where the tags begin.
const ADDRESSES: usize = 12;

/// Tags: 802.1Q, of priority alone, 802.1ad, and two of both orders that are in use.
pub(crate) const TAGS: [&[u8]; 5] = [
    &[0x81, 0, 0x0f, 0xff],
    &[0x81, 0, 0xe0, 0],
    &[0x88, 0xa8, 0, 5],
    &[0x88, 0xa8, 0, 5, 0x81, 0, 0x61, 0x23],
    &[0x81, 0, 0, 5, 0x81, 0, 0, 6],
];

/// The frame with tags.
pub(crate) fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..ADDRESSES], tags, &frame[ADDRESSES..]].concat()
}

fn check(way: Way, by: Outcome, world: &mut World) {
    for (about, frame) in variants() {
        for tags in TAGS {
            let output = way.expected(&frame);
            let output = if by == Outcome::Transmitted { tagged(&output, tags) } else { output };
            let opens = frame.transport == Transport::Tcp(Flags::Syn);
            let expected = Expected::Sent { by, output, ip_length: frame.ip_length(), opens };
            world.check(&format!("{way:?}, {tags:x?}, {about}"), &tagged(&frame.bytes(), tags), &expected);
        }
    }
}

#[test]
fn tags_stay_where_the_packet_leaves_by_the_interface_that_it_came_in_by() {
    for way in Way::ALL {
        check(way, Outcome::Transmitted, &mut World::new(way));
    }
}

#[test]
fn tags_are_taken_off_where_the_packet_leaves_by_another_interface() {
    for way in Way::ALL {
        let entry = BackendEntry { ifindex: INGRESS + 1, ..way.entry() };
        check(way, Outcome::Redirected, &mut World::with(entry));
    }
}

#[test]
fn what_is_not_sent_keeps_its_tags() {
    let mut world = World::new(Way::L2);
    for service in services() {
        let frame = opening(&service);
        let others = {
            let mut frame = frame.clone();
            frame.destination.set_port(81);
            frame.bytes()
        };
        let cases = [
            (others, Outcome::NotAService),
            (Frame { hops: 1, ..frame.clone() }.bytes(), Outcome::TtlExpired),
            (frame.bytes()[..ETHERNET + frame.headers() - 1].to_vec(), Outcome::Truncated),
        ];
        for (input, outcome) in cases {
            for tags in TAGS {
                world.check(&format!("{service:?}"), &tagged(&input, tags), &Expected::Kept(outcome));
            }
        }
    }
}

#[test]
fn tags_do_not_count_for_the_mtu_and_come_back_with_the_error() {
    const MTU: u16 = 1500;
    for way in Way::ALL {
        let mut world = World::with(way.entry_at(MTU));
        for service in services() {
            let mut frame = opening(&service);
            frame.payload = usize::from(MTU) - way.overhead(false) - frame.headers();
            for tags in TAGS {
                let verdict = world.lab.run(&tagged(&frame.bytes(), tags)).unwrap();
                assert_eq!(verdict.packet, tagged(&way.expected(&frame), tags), "{way:?}, {service:?}");
            }
            frame.payload += 1;
            let plain = world.lab.run(&frame.bytes()).unwrap();
            for tags in TAGS {
                let verdict = world.lab.run(&tagged(&frame.bytes(), tags)).unwrap();
                let told = Verdict { packet: tagged(&plain.packet, tags), ..plain.clone() };
                assert_eq!(verdict, told, "{way:?}, {service:?}");
            }
        }
    }
}

#[test]
fn a_driver_that_leaves_room_for_the_outer_header_but_not_for_the_tags_gets_its_packet_dropped() {
    // 256 bytes of head room less 40 of the kernel's: see `undeliverable`. 20 or 40 are needed; metadata come in fours.
    for (way, metadata) in [(Way::Ipv4, 200), (Way::Ipv6, 180)] {
        let mut world = World::new(way);
        for tags in TAGS {
            let packet = tagged(&opening(&services()[0]).bytes(), tags);
            let verdict = world.lab.run_behind(metadata, &packet).unwrap();
            assert_eq!(verdict.moved, [(Outcome::NoHeadroom, 1)].into(), "{way:?} {tags:x?}");
            assert_eq!(verdict.action, action(Outcome::NoHeadroom));
            assert_eq!(world.lab.counters(crate::world::BACKEND).unwrap().packets(), 0);
        }
    }
}
