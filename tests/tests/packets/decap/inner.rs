//! Inner packets that are for nobody here, or lie.

use super::*;
use std::net::SocketAddr;

#[test]
fn tunnels_that_carry_something_else_than_a_vips_packet_pass() {
    let mut lab = lab();
    for wrapped in wrapped() {
        let destination = wrapped.inner_at() + if wrapped.frame.source.is_ipv4() { 16 } else { 24 };
        for at in [destination, destination + 3] {
            let other = wrapped.poked(at, wrapped.packet[at] ^ 1);
            check_kept(&mut lab, &wrapped.about("to another address"), &other, DecapOutcome::NotAVip);
        }
        let Frame { source, destination, .. } = wrapped.frame;
        let back = Frame { source: destination, destination: source, ..wrapped.frame.clone() };
        let packet = wrapped.tunnel.wrap(&back);
        check_kept(&mut lab, &wrapped.about("from a VIP"), &packet, DecapOutcome::NotAVip);
    }
}

#[test]
fn a_vip_that_is_served_no_more_is_no_vip() {
    let mut lab = lab();
    lab.decapsulator.set_vips(&BTreeSet::new()).unwrap();
    for wrapped in wrapped() {
        check_kept(&mut lab, &wrapped.about("no VIPs"), &wrapped.packet, DecapOutcome::NotAVip);
    }
}

/// VIPs as they are served, and destinations: whether they are among them.
type Served = (&'static [&'static str], &'static [(&'static str, bool)]);

const PREFIXES: [Served; 4] = [
    (
        &["192.0.2.0/24", "2001:db8::/64"],
        &[
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::", false),
        ],
    ),
    (
        &["192.0.2.128/25", "192.0.2.1/32"],
        &[("192.0.2.1", true), ("192.0.2.2", false), ("192.0.2.128", true), ("2001:db8::1", false)],
    ),
    // All addresses of one family say nothing about the other.
    (&["0.0.0.0/0"], &[("203.0.113.9", true), ("2001:db8::1", false)]),
    (&["2000::/3"], &[("203.0.113.9", false), ("2001:db8::1", true), ("fd00::2", false)]),
];

#[test]
fn vips_may_be_prefixes() {
    let mut lab = lab();
    for (vips, destinations) in PREFIXES {
        lab.decapsulator.set_vips(&nets(vips).into_iter().collect()).unwrap();
        for (destination, is_served) in destinations {
            let destination: IpAddr = destination.parse().unwrap();
            let client = if destination.is_ipv4() { "198.51.100.7" } else { "2001:db8:1::7" };
            let source = SocketAddr::new(client.parse().unwrap(), 4000);
            let plain = Frame {
                payload: 9,
                source,
                destination: (destination, 80).into(),
                ..opening(&services()[0])
            };
            for tunnel in tunnels() {
                let wrapped = Wrapped::new(tunnel, &plain);
                let about = format!("{destination} among {vips:?}");
                if *is_served {
                    check_unwrapped(&mut lab, &about, &wrapped.packet, &wrapped.frame);
                } else {
                    check_kept(&mut lab, &about, &wrapped.packet, DecapOutcome::NotAVip);
                }
            }
        }
    }
}

#[test]
fn an_inner_packet_of_the_wrong_version_or_beyond_the_outer_one_is_dropped() {
    let mut lab = lab();
    for wrapped in wrapped() {
        let at = wrapped.inner_at();
        let v4 = wrapped.frame.source.is_ipv4();
        let length = at + if v4 { 2 } else { 4 };
        let one_more = (length + 1, wrapped.packet[length + 1] + 1);
        let mut pokes = vec![(length, 1), one_more];
        if !matches!(wrapped.tunnel.between, Between::Gue(_)) {
            pokes.extend([(at, 0x05), (at, 0x55), (at, 0xf5)]);
        }
        if v4 {
            pokes.extend([(at, 0x44), (at, 0x40), (length + 1, 19), (length + 1, 0)]);
        }
        for (place, value) in pokes {
            let about = wrapped.about(&format!("byte {} of the inner packet is {value:#x}", place - at));
            check_kept(&mut lab, &about, &wrapped.poked(place, value), DecapOutcome::BadInner);
        }
        // What is behind the outer packet does not belong to it.
        let (place, value) = one_more;
        let padded = [wrapped.poked(place, value), vec![0; 40]].concat();
        check_kept(&mut lab, &wrapped.about("padding"), &padded, DecapOutcome::BadInner);
    }
}

#[test]
fn an_inner_packet_may_be_shorter_than_the_outer_one() {
    let mut lab = lab();
    for wrapped in wrapped() {
        let at = wrapped.inner_at() + if wrapped.frame.source.is_ipv4() { 2 } else { 4 };
        let packet = wrapped.poked16(at, wrapped.field16(at) - 1);
        let inner = [&wrapped.frame.bytes()[..ETHERNET], &packet[wrapped.inner_at()..]].concat();
        check(&mut lab, &wrapped.about("shorter"), &packet, DecapOutcome::Decapsulated, &inner);
    }
}
