//! ICMP errors about translated packets.

use std::net::IpAddr;

use mesh_common::outcome::Outcome;

use super::reference::{self, Ends, Said, error, quoted};
use super::world::Out;
use super::{crosses, each, flows, with_header_checksum};
use crate::frame::{ETHERNET, Frame, Transport};
use crate::icmp::with_options;

/// The router that sends errors about a flow.
pub(super) fn router(is_ipv4: bool) -> IpAddr {
    let text = if is_ipv4 { "203.0.113.1" } else { "2001:db8:9::1" };
    text.parse().unwrap()
}

/// What errors say of a packet of 1500 bytes, and what they become.
pub(super) fn said(from_ipv4: bool, to_ipv4: bool) -> Vec<(Said, Said)> {
    let needed = |mtu: u16| Said(3, 4, [0, 0, mtu.to_be_bytes()[0], mtu.to_be_bytes()[1]]);
    let big = |mtu: u32| Said(2, 0, mtu.to_be_bytes());
    let same = |said: Vec<Said>| said.into_iter().map(|said| (said, said)).collect();
    match (from_ipv4, to_ipv4) {
        (true, true) => same(vec![
            Said(3, 0, [0; 4]),
            Said(3, 3, [0; 4]),
            needed(1400),
            Said(11, 0, [0; 4]),
            Said(12, 0, [9, 0, 0, 0]),
        ]),
        (false, false) => same(vec![
            Said(1, 0, [0; 4]),
            Said(1, 4, [0; 4]),
            big(1400),
            Said(3, 0, [0; 4]),
            Said(4, 1, [0, 0, 0, 6]),
        ]),
        (true, false) => vec![
            (Said(3, 0, [0; 4]), Said(1, 0, [0; 4])),
            (Said(3, 2, [0; 4]), Said(4, 1, [0, 0, 0, 6])),
            (Said(3, 3, [0; 4]), Said(1, 4, [0; 4])),
            (needed(1400), big(1420)),
            (needed(0), big(1512)),
            (needed(576), big(1280)),
            (Said(3, 13, [0; 4]), Said(1, 1, [0; 4])),
            (Said(11, 0, [0; 4]), Said(3, 0, [0; 4])),
            (Said(12, 0, [8, 0, 0, 0]), Said(4, 0, [0, 0, 0, 7])),
        ],
        (false, true) => vec![
            (Said(1, 0, [0; 4]), Said(3, 1, [0; 4])),
            (Said(1, 1, [0; 4]), Said(3, 10, [0; 4])),
            (Said(1, 4, [0; 4]), Said(3, 3, [0; 4])),
            (big(1400), needed(1380)),
            (Said(3, 0, [0; 4]), Said(11, 0, [0; 4])),
            (Said(4, 0, [0, 0, 0, 7]), Said(12, 0, [8, 0, 0, 0])),
            (Said(4, 1, [0, 0, 0, 6]), Said(3, 2, [0; 4])),
        ],
    }
}

/// The packet of the other direction that errors are about, as it left here, and as it came in.
pub(super) fn about(frame: &Frame, to: Ends, length: usize) -> [Frame; 2] {
    [Ends::of(frame), to].map(|ends| {
        let Ends { source, destination } = ends.turned();
        let headers = if frame.transport == Transport::Udp { 28 } else { 40 };
        // The lengths of the headers differ, what they carry does not.
        let (payload, id) = (length - headers, 0);
        Frame { payload, id, dont_fragment: true, ..Frame::new(source, destination, frame.transport) }
    })
}

pub(super) fn packet(frame: &Frame) -> Vec<u8> {
    frame.bytes()[ETHERNET..].to_vec()
}

pub(super) const FRAME: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0x11]];

#[test]
fn errors_about_packets_reach_who_sent_them_as_if_they_had_no_other_ends() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            let [inner, outer] = about(&frame, to, 1500);
            let from_ipv4 = frame.source.is_ipv4();
            let least = if from_ipv4 { 28 } else { 48 };
            for ((came, goes), length) in said(from_ipv4, to.is_ipv4())
                .into_iter()
                .flat_map(|said| [least, 60, 300, 1232].map(|n| (said, n)))
            {
                let quotation = &packet(&inner)[..length.max(least)];
                let ends = [router(from_ipv4), frame.destination.ip()];
                let input = error(FRAME, ends, (0xb8, 9), came, quotation);
                let ends = [to.source.ip(), to.destination.ip()];
                let expected = error(reference::MACS, ends, (0xb8, 8), goes, &quoted(&outer));
                let output = world.sent("sent", &input);
                assert_eq!(output, expected, "{came:?} about {inner:?}, {length} bytes quoted, to {to:?}");
            }
        }
    });
}

/// The frame with more in front of what its IP header carries, as far as its version has such.
fn with_more(frame: &Frame) -> Frame {
    Frame { options: 8, extensions: vec![(0, 8), (60, 16)], ..frame.clone() }
}

#[test]
fn errors_quote_headers_without_what_stands_behind_them() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            let [inner, outer] = about(&frame, to, 200);
            let from_ipv4 = frame.source.is_ipv4();
            let (came, goes) = said(from_ipv4, to.is_ipv4()).remove(0);
            let ends = [router(from_ipv4), frame.destination.ip()];
            let input = error(FRAME, ends, (0, 9), came, &packet(&with_more(&inner)));
            let outer = Frame { dont_fragment: from_ipv4 && to.is_ipv4(), ..outer };
            let ends = [to.source.ip(), to.destination.ip()];
            let expected = error(reference::MACS, ends, (0, 8), goes, &quoted(&outer));
            assert_eq!(world.sent("options behind the quoted header", &input), expected, "{inner:?}, {to:?}");
            if !from_ipv4 {
                let input = with_options(&input);
                assert_eq!(world.sent("options behind the error's own header, too", &input), expected);
            }
        }
    });
}

#[test]
fn errors_about_first_fragments_are_translated_and_those_about_others_go_into_the_host() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            let [inner, outer] = about(&frame, to, 200);
            let from_ipv4 = frame.source.is_ipv4();
            let (came, goes) = said(from_ipv4, to.is_ipv4()).remove(0);
            let ends = [router(from_ipv4), frame.destination.ip()];
            let error_about = |fragment: &[u8]| error(FRAME, ends, (0, 9), came, &fragment[ETHERNET..]);
            let fragments = inner.fragments(64);
            let output = world.sent("about the first", &error_about(&fragments[0]));
            // The fragment's own header is left out, or the fragment is quoted as a packet of its length.
            let mut quotation = quoted(&outer);
            match (from_ipv4, to.is_ipv4()) {
                (true, true) => quotation.copy_from_slice(&outer.fragments(64)[0][ETHERNET..][..28]),
                (_, false) => quotation[4..6].copy_from_slice(&64_u16.to_be_bytes()),
                (false, true) => {
                    quotation[2..4].copy_from_slice(&84_u16.to_be_bytes());
                    quotation[6] = 0;
                    quotation = with_header_checksum(&quotation);
                }
            }
            let ends = [to.source.ip(), to.destination.ip()];
            assert_eq!(output, error(reference::MACS, ends, (0, 8), goes, &quotation), "{inner:?}, {to:?}");
            let other = error_about(&fragments[1]);
            assert_eq!(world.ends("about another", Outcome::OtherProtocol, &other), other);
        }
    });
}

#[test]
fn errors_that_the_other_version_has_no_word_for_are_dropped() {
    each(|world| {
        for (frame, to) in flows().into_iter().filter(|(frame, to)| crosses(frame, *to)) {
            world.connect(&frame, to, Out::WIDE);
            let [inner, _] = about(&frame, to, 100);
            let from_ipv4 = frame.source.is_ipv4();
            let wordless = if from_ipv4 {
                [Said(3, 14, [0; 4]), Said(12, 0, [4, 0, 0, 0]), Said(12, 1, [0; 4])]
            } else {
                [Said(1, 5, [0; 4]), Said(4, 0, [0, 0, 0, 2]), Said(4, 2, [0, 0, 0, 6])]
            };
            for came in wordless {
                let ends = [router(from_ipv4), frame.destination.ip()];
                world.ends(
                    "no word",
                    Outcome::Untranslatable,
                    &error(FRAME, ends, (0, 9), came, &packet(&inner)),
                );
            }
        }
    });
}
