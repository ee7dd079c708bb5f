//! What the inner packet learns of congestion on the way: figure 4 of RFC 6040.

use super::*;

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// By inner and then outer codepoint; `None`: dropped.
const TABLE: [(u8, [Option<u8>; 4]); 4] = [
    (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
    (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
    (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
    (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
];

/// The packet with another outer traffic class.
fn remarked(wrapped: &Wrapped, traffic_class: u8) -> Vec<u8> {
    if wrapped.is_outer_ipv4() {
        return wrapped.poked(ETHERNET + 1, traffic_class);
    }
    let [first, second] = [wrapped.packet[ETHERNET], wrapped.packet[ETHERNET + 1]];
    let mut packet = wrapped.poked(ETHERNET, first & 0xf0 | traffic_class >> 4);
    packet[ETHERNET + 1] = traffic_class << 4 | second & 0x0f;
    packet
}

#[test]
fn congestion_reaches_the_inner_packet_or_drops_it() {
    let mut lab = lab();
    for (inner, row) in TABLE {
        for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
            // DSCP stays the inner packet's.
            for (dscp, outer_dscp) in [(0, 0), (0xb8, 0x28), (0, 0xfc), (0xfc, 0)] {
                for (service, tunnel) in
                    services().iter().flat_map(|service| tunnels().into_iter().map(move |t| (service, t)))
                {
                    let frame = Frame { traffic_class: dscp | inner, payload: 7, ..opening(service) };
                    let wrapped = Wrapped::new(tunnel, &frame);
                    let packet = remarked(&wrapped, outer_dscp | outer);
                    let about = wrapped.about(&format!("{inner:02b} in {outer:02b}"));
                    match expected {
                        Some(ecn) => {
                            let frame = Frame { traffic_class: dscp | ecn, ..wrapped.frame };
                            check_unwrapped(&mut lab, &about, &packet, &frame);
                        }
                        None => check_kept(&mut lab, &about, &packet, DecapOutcome::Congestion),
                    }
                }
            }
        }
    }
}

#[test]
fn the_checksum_stays_right_whatever_it_is() {
    let mut lab = lab();
    let service = services().remove(0);
    for id in (0..=u16::MAX).step_by(257) {
        let frame = Frame { traffic_class: ECT_0, id, ..opening(&service) };
        let wrapped = Wrapped::new(tunnels().remove(0), &frame);
        let expected = Frame { traffic_class: CE, ..wrapped.frame.clone() };
        check_unwrapped(&mut lab, &format!("id {id:#x}"), &remarked(&wrapped, CE), &expected);
    }
}
