//! Packets that are cut, and packets whose length fields lie.

use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;

use crate::frame::{ETHERNET, Frame, Transport};
use crate::world::{Expected, Way, World, opening, services};

/// Where the length field stands, in a frame.
fn length_field(frame: &Frame) -> usize {
    ETHERNET + if frame.source.is_ipv4() { 2 } else { 4 }
}

/// The frame with another length in its IP header.
fn with_length(frame: &Frame, length: usize) -> Vec<u8> {
    let mut packet = frame.bytes();
    let at = length_field(frame);
    packet[at..at + 2].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    packet
}

/// The length field's value when it is right.
fn right_length(frame: &Frame) -> usize {
    if frame.source.is_ipv4() { frame.ip_length() } else { frame.ip_length() - 40 }
}

fn frames() -> Vec<Frame> {
    let plain = services().iter().map(opening).collect::<Vec<_>>();
    let with_options = plain[..2].iter().flat_map(|f| [4, 40].map(|n| Frame { options: n, ..f.clone() }));
    let with_options = with_options.collect::<Vec<_>>();
    let chains = [&[(60, 8)][..], &[(0, 16), (43, 8), (44, 8), (60, 24)]];
    let with_extensions =
        plain[2..].iter().flat_map(|f| chains.map(|chain| Frame { extensions: chain.to_vec(), ..f.clone() }));
    let with_extensions = with_extensions.collect::<Vec<_>>();
    plain
        .into_iter()
        .chain(with_options)
        .chain(with_extensions)
        .map(|frame| Frame { payload: 33, ..frame })
        .collect()
}

#[test]
fn a_packet_cut_within_its_headers_passes_and_one_cut_behind_them_is_dropped() {
    for way in Way::ALL {
        let mut world = World::new(way);
        for frame in frames() {
            let whole = frame.bytes();
            for cut in ETHERNET..whole.len() {
                let within = cut < ETHERNET + frame.headers();
                let outcome = if within { Outcome::Truncated } else { Outcome::BadLength };
                let about = format!("{way:?}, {frame:?}, cut at {cut}");
                world.check(&about, &whole[..cut], &Expected::Kept(outcome));
            }
            world.check_sent("whole", way, Outcome::Transmitted, &frame);
        }
    }
}

#[test]
fn a_packet_of_others_that_is_cut_passes() {
    let mut world = World::new(Way::L2);
    for frame in frames() {
        let mut frame = frame;
        frame.destination.set_port(81);
        let whole = frame.bytes();
        for cut in ETHERNET..whole.len() {
            let within = cut < ETHERNET + frame.headers();
            let outcome = if within { Outcome::Truncated } else { Outcome::NotAService };
            world.check(&format!("cut at {cut}"), &whole[..cut], &Expected::Kept(outcome));
        }
    }
}

#[test]
fn a_length_beyond_the_frame_is_dropped() {
    for way in Way::ALL {
        let mut world = World::new(way);
        for frame in frames() {
            let right = right_length(&frame);
            for length in [right + 1, right + 100, 0x7fff, 0xffff] {
                let about = format!("{way:?}, {frame:?}, length {length}");
                world.check(&about, &with_length(&frame, length), &Expected::Kept(Outcome::BadLength));
            }
        }
    }
}

#[test]
fn a_length_beyond_a_frame_of_several_buffers_is_dropped() {
    let mut world = World::with(BackendEntry { room: 9100, ..Way::Ipv4.entry() });
    for service in services() {
        let frame = Frame { payload: 8000, ..opening(&service) };
        let packet = with_length(&frame, right_length(&frame) + 1);
        world.check(&format!("{service:?}"), &packet, &Expected::Kept(Outcome::BadLength));
    }
}

#[test]
fn a_length_that_ends_within_the_headers_is_dropped() {
    for way in Way::ALL {
        let mut world = World::new(way);
        for frame in frames() {
            let headers = right_length(&frame) - frame.payload;
            for length in 0..headers {
                let about = format!("{way:?}, {frame:?}, length {length}");
                world.check(&about, &with_length(&frame, length), &Expected::Kept(Outcome::BadLength));
            }
        }
    }
}

#[test]
fn a_length_that_ends_with_the_headers_is_sent() {
    for way in Way::ALL {
        let mut world = World::new(way);
        for service in services() {
            // What follows is padding.
            let frame = Frame { padding: 18, ..opening(&service) };
            world.check_sent(&format!("{way:?}, {service:?}"), way, Outcome::Transmitted, &frame);
        }
    }
}

#[test]
fn headers_of_another_version_or_no_length_pass() {
    let mut world = World::new(Way::Ipv4);
    for frame in frames() {
        let right = if frame.source.is_ipv4() { 4 } else { 6 };
        for version in (0..16).filter(|version| *version != right) {
            let mut packet = frame.bytes();
            packet[ETHERNET] = version << 4 | packet[ETHERNET] & 0xf;
            world.check(&format!("version {version}"), &packet, &Expected::Kept(Outcome::Truncated));
        }
    }
    for words in 0..5 {
        let mut packet = opening(&services()[0]).bytes();
        packet[ETHERNET] = 0x40 | words;
        world.check(&format!("{words} words"), &packet, &Expected::Kept(Outcome::Truncated));
    }
}

#[test]
fn options_that_end_beyond_the_frame_pass() {
    let mut world = World::new(Way::Ipv4);
    for service in &services()[..2] {
        let frame = opening(service);
        let transport = if frame.transport == Transport::Udp { 8 } else { 20 };
        for words in 6..=15 {
            let mut packet = frame.bytes();
            packet[ETHERNET] = 0x40 | words;
            // The transport header begins where the options end, which is later than where it is.
            let within = packet.len() < ETHERNET + usize::from(words) * 4 + transport;
            assert!(within);
            world.check(&format!("{words} words"), &packet, &Expected::Kept(Outcome::Truncated));
        }
    }
}
