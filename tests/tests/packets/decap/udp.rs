//! UDP, and Geneve behind it.

use super::*;
use mesh_common::abi::tunnel;

#[test]
fn udp_to_other_ports_passes() {
    let mut lab = lab();
    for wrapped in wrapped_in_udp() {
        for port in [53, 6079, 6082, 0] {
            let about = wrapped.about(&format!("port {port}"));
            let changed = wrapped.poked16(wrapped.outer_end() + 2, port);
            check_kept(&mut lab, &about, &changed, DecapOutcome::NotATunnel);
        }
    }
}

#[test]
fn ports_are_as_they_were_last_set() {
    let mut lab = lab();
    lab.decapsulator.set_ports(&[(7000, tunnel::GENEVE), (6080, tunnel::GENEVE)].into()).unwrap();
    lab.decapsulator.set_ports(&[(7000, tunnel::GUE), (7001, tunnel::GENEVE)].into()).unwrap();
    for wrapped in wrapped_in_udp() {
        check_kept(&mut lab, "the port before", &wrapped.packet, DecapOutcome::NotATunnel);
        let port = if wrapped.tunnel.between == Between::Gue(6080) { 7000 } else { 7001 };
        let changed = wrapped.poked16(wrapped.outer_end() + 2, port);
        check_unwrapped(&mut lab, "the port now", &changed, &wrapped.frame);
    }
}

#[test]
fn a_udp_length_that_is_not_the_rest_of_the_packet_is_dropped() {
    let mut lab = lab();
    for wrapped in wrapped_in_udp() {
        let at = wrapped.outer_end() + 4;
        let right = wrapped.field16(at);
        for length in [0, 7, 8, 16, right - 1, right + 1, 0xffff] {
            let about = wrapped.about(&format!("UDP length {length}"));
            check_kept(&mut lab, &about, &wrapped.poked16(at, length), DecapOutcome::BadOuter);
        }
    }
}

#[test]
fn a_packet_that_ends_with_or_within_its_udp_header_is_dropped() {
    let mut lab = lab();
    for wrapped in wrapped_in_udp() {
        let header = if wrapped.is_outer_ipv4() { 20 } else { 0 };
        for rest in 0..8 {
            let mut packet = wrapped.poked16(wrapped.outer_length(), header + rest);
            packet[wrapped.outer_end() + 4..wrapped.outer_end() + 6]
                .copy_from_slice(&u16::try_from(rest).unwrap().to_be_bytes());
            check_kept(&mut lab, &wrapped.about(&format!("{rest} bytes")), &packet, DecapOutcome::BadOuter);
        }
        let mut packet = wrapped.poked16(wrapped.outer_length(), header + 8);
        packet[wrapped.outer_end() + 4..wrapped.outer_end() + 6].copy_from_slice(&[0, 8]);
        let outcome = match wrapped.tunnel.between {
            // What follows is padding: an inner packet that lies beyond the outer one.
            Between::Gue(_) => DecapOutcome::BadInner,
            Between::Nothing | Between::Geneve(_) => DecapOutcome::BadOuter,
        };
        check_kept(&mut lab, &wrapped.about("nothing behind UDP"), &packet, outcome);
    }
}

#[test]
fn a_udp_checksum_is_refused() {
    let mut lab = lab();
    for wrapped in wrapped_in_udp() {
        for sum in [1, 0x100, 0xffff] {
            let changed = wrapped.poked16(wrapped.outer_end() + 6, sum);
            check_kept(&mut lab, &wrapped.about("a checksum"), &changed, DecapOutcome::UdpChecksum);
        }
    }
}

#[test]
fn gue_with_a_header_of_its_own_passes() {
    let mut lab = lab();
    for wrapped in wrapped_in_udp().filter(|wrapped| matches!(wrapped.tunnel.between, Between::Gue(_))) {
        for version in (0..16).filter(|version| ![4, 6].contains(version)) {
            let changed = wrapped.poked(wrapped.inner_at(), version << 4 | 5);
            let about = wrapped.about(&format!("version {version}"));
            check_kept(&mut lab, &about, &changed, DecapOutcome::OtherPayload);
        }
    }
}

/// Where the Geneve header begins.
fn geneve_at(wrapped: &Wrapped) -> usize {
    wrapped.outer_end() + 8
}

/// The packet with these options in place of its own, and lengths to match.
fn with_options(wrapped: &Wrapped, options: &[u8]) -> Vec<u8> {
    let (at, inner) = (geneve_at(wrapped), wrapped.inner_at());
    let mut packet = [&wrapped.packet[..at + 8], options, &wrapped.packet[inner..]].concat();
    let words = u8::try_from(options.len() / 4).unwrap();
    packet[at] = words;
    for field in [wrapped.outer_length(), wrapped.outer_end() + 4] {
        let length = wrapped.field16(field) + options.len() - (inner - at - 8);
        packet[field..field + 2].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    }
    packet
}

#[test]
fn options_of_any_length_are_skipped() {
    let mut lab = lab();
    for wrapped in wrapped_in_geneve() {
        for words in [0, 1, 2, 7, 31, 62, 63] {
            let packet = with_options(&wrapped, &vec![0xee; words * 4]);
            check_unwrapped(&mut lab, &wrapped.about(&format!("{words} words")), &packet, &wrapped.frame);
        }
    }
}

#[test]
fn options_beyond_the_packet_are_dropped() {
    let mut lab = lab();
    for wrapped in wrapped_in_geneve() {
        let room = wrapped.packet.len() - geneve_at(&wrapped) - 8;
        for words in [room / 4 + 1, 63] {
            let changed = wrapped.poked(geneve_at(&wrapped), u8::try_from(words).unwrap());
            check_kept(&mut lab, &wrapped.about(&format!("{words} words")), &changed, DecapOutcome::BadOuter);
        }
    }
}

#[test]
fn an_option_that_must_not_be_skipped_is_dropped() {
    let mut lab = lab();
    for wrapped in wrapped_in_geneve() {
        for bits in [0x40, 0x7f] {
            let changed = wrapped.poked(geneve_at(&wrapped) + 1, bits);
            check_kept(&mut lab, &wrapped.about("critical"), &changed, DecapOutcome::CriticalOption);
        }
        // Reserved bits are ignored on receipt, and so are critical bits of options that no bit announces.
        let changed = wrapped.poked(geneve_at(&wrapped) + 1, 0x3f);
        check_unwrapped(&mut lab, &wrapped.about("reserved bits"), &changed, &wrapped.frame);
        let changed = wrapped.poked(geneve_at(&wrapped) + 7, 0xff);
        check_unwrapped(&mut lab, &wrapped.about("a reserved byte"), &changed, &wrapped.frame);
        let changed = wrapped.poked(geneve_at(&wrapped) + 10, 0x81);
        check_unwrapped(&mut lab, &wrapped.about("unannounced"), &changed, &wrapped.frame);
    }
}

#[test]
fn other_versions_of_geneve_are_dropped() {
    let mut lab = lab();
    for wrapped in wrapped_in_geneve() {
        let at = geneve_at(&wrapped);
        for version in 1..4 {
            let changed = wrapped.poked(at, wrapped.packet[at] | version << 6);
            check_kept(&mut lab, &wrapped.about("version"), &changed, DecapOutcome::BadOuter);
        }
    }
}

#[test]
fn geneve_that_carries_no_ip_or_belongs_to_another_network_passes() {
    let mut lab = lab();
    for wrapped in wrapped_in_geneve() {
        let at = geneve_at(&wrapped);
        let ethernet = wrapped.poked16(at + 2, 0x6558);
        check_kept(&mut lab, &wrapped.about("Ethernet"), &ethernet, DecapOutcome::OtherPayload);
        for bits in [0x80, 0xc0] {
            let control = wrapped.poked(at + 1, bits);
            check_kept(&mut lab, &wrapped.about("control"), &control, DecapOutcome::OtherPayload);
        }
        for byte in 4..7 {
            let network = wrapped.poked(at + byte, 1);
            check_kept(&mut lab, &wrapped.about("a network"), &network, DecapOutcome::OtherPayload);
        }
    }
}
