//! Outer IP headers that are not taken for a tunnel's, or lie.

use super::*;

#[test]
fn outer_headers_with_options_and_fragments_pass() {
    let mut lab = lab();
    for wrapped in wrapped().into_iter().filter(Wrapped::is_outer_ipv4) {
        let unusual = match wrapped.tunnel.between {
            Between::Nothing => DecapOutcome::UnusualOuter,
            // Whose port it is cannot be told.
            Between::Gue(_) | Between::Geneve(_) => DecapOutcome::NotATunnel,
        };
        for (at, value, outcome) in [
            (0, 0x46, unusual),
            (0, 0x4f, unusual),
            (6, 0x20, unusual),
            (6, 0x60, unusual),
            (6, 0x01, unusual),
            (7, 0x01, unusual),
            (0, 0x44, DecapOutcome::NotATunnel),
            (0, 0x65, DecapOutcome::NotATunnel),
        ] {
            let about = wrapped.about(&format!("byte {at} is {value:#x}"));
            check_kept(&mut lab, &about, &wrapped.poked(ETHERNET + at, value), outcome);
        }
        for flags in [0, 0x40, 0x80] {
            check_unwrapped(&mut lab, "no fragment", &wrapped.poked(ETHERNET + 6, flags), &wrapped.frame);
        }
    }
}

#[test]
fn outer_ipv6_headers_of_another_version_pass() {
    let mut lab = lab();
    for wrapped in wrapped().into_iter().filter(|wrapped| !wrapped.is_outer_ipv4()) {
        let changed = wrapped.poked(ETHERNET, 0x45);
        check_kept(&mut lab, &wrapped.about("version 4"), &changed, DecapOutcome::NotATunnel);
    }
}

#[test]
fn every_other_protocol_to_this_host_passes() {
    let mut lab = lab();
    for wrapped in wrapped().iter().take(tunnels().len()) {
        let at = ETHERNET + if wrapped.is_outer_ipv4() { 9 } else { 6 };
        for number in (0..=255).filter(|number| ![4, 17, 41].contains(number)) {
            let about = wrapped.about(&format!("protocol {number}"));
            check_kept(&mut lab, &about, &wrapped.poked(at, number), DecapOutcome::NotATunnel);
        }
    }
}

#[test]
fn a_tunnel_packet_cut_anywhere_is_kept_as_it_is() {
    let mut lab = lab();
    for wrapped in wrapped() {
        let udp = if wrapped.tunnel.between == Between::Nothing { 0 } else { 8 };
        for cut in ETHERNET + 1..wrapped.packet.len() {
            let seen = cut >= wrapped.outer_end() + udp;
            let outcome = if seen { DecapOutcome::BadOuter } else { DecapOutcome::NotATunnel };
            check_kept(&mut lab, &wrapped.about(&format!("cut at {cut}")), &wrapped.packet[..cut], outcome);
        }
    }
}

#[test]
fn an_outer_length_beyond_the_frame_or_within_the_header_is_dropped() {
    let mut lab = lab();
    for wrapped in wrapped() {
        let (at, right) = (wrapped.outer_length(), wrapped.field16(wrapped.outer_length()));
        for length in [right + 1, right + 500, 0xffff] {
            let about = wrapped.about(&format!("length {length}"));
            check_kept(&mut lab, &about, &wrapped.poked16(at, length), DecapOutcome::BadOuter);
        }
        let within = if wrapped.is_outer_ipv4() { 0..20 } else { 0..0 };
        for length in within {
            let about = wrapped.about(&format!("length {length}"));
            check_kept(&mut lab, &about, &wrapped.poked16(at, length), DecapOutcome::BadOuter);
        }
    }
}

#[test]
fn an_outer_length_that_ends_within_the_inner_packet_is_dropped() {
    let mut lab = lab();
    for wrapped in wrapped() {
        let (at, right) = (wrapped.outer_length(), wrapped.field16(wrapped.outer_length()));
        let outcome = match wrapped.tunnel.between {
            Between::Nothing => DecapOutcome::BadInner,
            Between::Gue(_) | Between::Geneve(_) => DecapOutcome::BadOuter,
        };
        for length in [right - 1, right - 50] {
            let about = wrapped.about(&format!("length {length}"));
            check_kept(&mut lab, &about, &wrapped.poked16(at, length), outcome);
        }
    }
}
