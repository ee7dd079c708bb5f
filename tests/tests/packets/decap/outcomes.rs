//! Every outcome can be reached: none is there for nothing, and none goes untested.

use super::*;

/// A packet of Geneve in IPv4 that ends so; a new outcome does not compile until there is a way to it.
fn packet(wrapped: &Wrapped, outcome: DecapOutcome) -> Vec<u8> {
    let udp = wrapped.outer_end();
    match outcome {
        DecapOutcome::Decapsulated | DecapOutcome::NotRemoved => wrapped.packet.clone(),
        DecapOutcome::NotATunnel => wrapped.poked16(udp + 2, 53),
        DecapOutcome::UnusualOuter => {
            let mut packet = wrapped.poked(ETHERNET + 9, 4);
            packet[ETHERNET] = 0x46;
            packet
        }
        DecapOutcome::BadOuter => wrapped.poked16(udp + 4, 0),
        DecapOutcome::UdpChecksum => wrapped.poked16(udp + 6, 1),
        DecapOutcome::OtherPayload => wrapped.poked16(udp + 10, 0x6558),
        DecapOutcome::CriticalOption => wrapped.poked(udp + 9, 0x40),
        DecapOutcome::NotAVip => wrapped.poked(wrapped.inner_at() + 16, 1),
        DecapOutcome::BadInner => wrapped.poked16(wrapped.inner_at() + 2, 0xffff),
        DecapOutcome::Congestion => wrapped.poked(ETHERNET + 1, 3),
    }
}

#[test]
fn every_outcome_is_reached_by_a_packet() {
    let mut lab = lab();
    let wrapped = wrapped_in_geneve().next().unwrap();
    assert!(wrapped.is_outer_ipv4() && wrapped.frame.source.is_ipv4());
    for outcome in DecapOutcome::ALL {
        let packet = packet(&wrapped, *outcome);
        if *outcome == DecapOutcome::NotRemoved {
            // The kernel cuts nothing off merged packets that are no TCP.
            let verdict = lab.run_tc_merged(&packet).unwrap();
            check_verdict("merged", &verdict, SHOT, DecapOutcome::NotRemoved, &packet);
        } else if *outcome != DecapOutcome::Decapsulated {
            check_kept(&mut lab, &format!("{outcome:?}"), &packet, *outcome);
        } else {
            check_unwrapped(&mut lab, "whole", &packet, &wrapped.frame);
        }
    }
}
