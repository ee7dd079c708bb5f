//! IPv6 extension headers that are not stepped over; those that are stand in `forwarding`, `lengths` and `vlan`.

use mesh_common::outcome::Outcome;

use crate::frame::{ETHERNET, Frame};
use crate::world::{Expected, Way, World, opening, services};

fn check(about: &str, world: &mut World, extensions: &[(u8, usize)], outcome: Outcome) {
    for service in &services()[2..] {
        let frame = Frame { extensions: extensions.to_vec(), ..opening(service) };
        world.check(&format!("{about}, {service:?}"), &frame.bytes(), &Expected::Kept(outcome));
    }
}

#[test]
fn more_headers_or_bytes_than_are_looked_through_pass_and_are_counted() {
    let mut world = World::new(Way::L2);
    for extensions in
        [&[(60, 8); 7][..], &[(60, 8); 20], &[(60, 264)], &[(0, 248), (60, 16)], &[(60, 2048); 2]]
    {
        check("too many", &mut world, extensions, Outcome::TooManyHeaders);
    }
}

#[test]
fn headers_that_hide_what_follows_or_stand_where_they_must_not_pass() {
    let mut world = World::new(Way::L2);
    // Authentication (its length is in other units), encrypted, none, mobility, host identity, shim6.
    for number in [51, 50, 59, 135, 139, 140] {
        check(&format!("{number}"), &mut world, &[(number, 8)], Outcome::OtherProtocol);
        check(&format!("{number} later"), &mut world, &[(60, 8), (number, 8)], Outcome::OtherProtocol);
    }
    check("hop-by-hop options second", &mut world, &[(60, 8), (0, 8)], Outcome::OtherProtocol);
}

#[test]
fn a_packet_that_is_still_to_go_elsewhere_passes() {
    let mut world = World::new(Way::L2);
    for service in &services()[2..] {
        let mut packet = Frame { extensions: vec![(43, 24)], ..opening(service) }.bytes();
        let segments_left = ETHERNET + 40 + 3;
        packet[segments_left] = 1;
        world.check("a segment left", &packet, &Expected::Kept(Outcome::OtherProtocol));
    }
}
