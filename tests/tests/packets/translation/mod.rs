//! Translation: whole output bytes, compared with packets that etherparse puts together from scratch.

mod errors;
mod reference;
mod world;

use std::net::{IpAddr, SocketAddr};

use etherparse::Ipv4Header;
use mesh_common::outcome::Outcome;
use mesh_tests::lab::{INGRESS, Lab};
use mesh_userspace::dataplane::kernel::{Explained, Explainer};

use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::icmp::told;
use crate::random::Random;
use crate::vlan::{TAGS, tagged};
use errors::{FRAME, about, packet, router, said};
use reference::{Ends, Said, error, translated, with_chance};
use world::{Direction, Out, World};

const TRANSPORTS: [Transport; 2] = [Transport::Tcp(Flags::Ack), Transport::Udp];

/// Has both directions tested.
fn each(test: impl Fn(&mut World)) {
    World::both().iter_mut().for_each(test);
}

/// The ends of a flow, on either side of the balancer and in either version.
fn ends([source, destination]: [&str; 2]) -> Ends {
    let [source, destination] = [source, destination].map(|end| end.parse().unwrap());
    Ends { source, destination }
}

fn here(is_ipv4: bool) -> Ends {
    ends(if is_ipv4 { ["10.0.0.1:8080", "192.0.2.9:40000"] } else { ["[fd00::1]:8080", "[fd00::9]:40000"] })
}

fn there(is_ipv4: bool) -> Ends {
    ends(if is_ipv4 {
        ["192.0.2.10:80", "198.51.100.7:4000"]
    } else {
        ["[2001:db8::10]:80", "[2001:db8:1::7]:4000"]
    })
}

/// A flow's ends here and there, in all four pairs of versions.
fn pairs() -> [(Ends, Ends); 4] {
    [(true, true), (false, false), (true, false), (false, true)].map(|(from, to)| (here(from), there(to)))
}

/// All pairs, with either transport.
fn flows() -> Vec<(Frame, Ends)> {
    let flow = |(from, to): (Ends, Ends)| {
        TRANSPORTS.map(|transport| (Frame::new(from.source, from.destination, transport), to))
    };
    pairs().into_iter().flat_map(flow).collect()
}

fn crosses(frame: &Frame, to: Ends) -> bool {
    frame.source.is_ipv4() != to.is_ipv4()
}

/// Where the transport header of a frame begins.
fn transport_at(frame: &Frame) -> usize {
    ETHERNET + frame.ip_headers()
}

fn variants(frame: &Frame) -> Vec<(&'static str, Frame)> {
    let change = |what, change: &dyn Fn(&mut Frame)| {
        let mut changed = frame.clone();
        change(&mut changed);
        (what, changed)
    };
    let mut variants = vec![
        change("as it is", &|_| ()),
        change("an odd length", &|f| f.payload = 1),
        change("a long packet", &|f| f.payload = 1400),
        change("Ethernet padding", &|f| f.padding = 6),
        change("Ethernet padding behind a payload", &|f| (f.payload, f.padding) = (3, 11)),
        change("may be fragmented", &|f| f.dont_fragment = false),
        change("the longest life", &|f| f.hops = 255),
        change("the shortest life that goes on", &|f| f.hops = 2),
        change("every bit of the traffic class", &|f| f.traffic_class = 0xff),
        change("congestion experienced", &|f| f.traffic_class = 0x03),
        change("the longest that may be fragmented", &|f| f.payload = 1240 - (f.headers() - f.ip_headers())),
        change("one byte longer", &|f| f.payload = 1241 - (f.headers() - f.ip_headers())),
    ];
    if frame.source.is_ipv4() {
        variants.extend((4..=40).step_by(4).map(|n| change("options", &|f| (f.options, f.payload) = (n, 9))));
    } else {
        let chains: [&[(u8, usize)]; 6] = [
            &[(0, 8)],
            &[(60, 256)],
            &[(43, 24)],
            &[(44, 8)],
            &[(0, 8), (60, 24), (43, 8), (44, 8), (60, 8), (60, 200)],
            &[(60, 8); 6],
        ];
        variants.extend(chains.map(|chain| change("extensions", &|f| f.extensions = chain.to_vec())));
    }
    variants
}

/// Checks what a frame becomes.
fn check(world: &mut World, about: &str, frame: &Frame, to: Ends) {
    let output = world.sent(about, &frame.bytes());
    assert_eq!(output, with_chance(frame, to, &output).bytes(), "{about}: {frame:?} to {to:?}");
}

#[test]
fn packets_get_other_ends_and_where_these_say_so_another_header() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            for (about, frame) in variants(&frame) {
                check(world, about, &frame, to);
            }
        }
    });
}

/// The frame without a UDP checksum.
fn without_checksum(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.bytes();
    let at = transport_at(frame) + 6;
    bytes[at..at + 2].fill(0);
    bytes
}

#[test]
fn a_datagram_without_a_checksum_gets_one_only_if_it_becomes_ipv6() {
    each(|world| {
        for (frame, to) in flows().into_iter().filter(|(frame, _)| frame.transport == Transport::Udp) {
            world.connect(&frame, to, Out::WIDE);
            for payload in [0, 1, 7, 8, 55, 56, 57, 63, 64, 65, 119, 120, 121, 1000, 1471, 1472, 1527, 1528] {
                let frame = Frame { payload, ..frame.clone() };
                let output = world.sent("sent", &without_checksum(&frame));
                let becomes = with_chance(&frame, to, &output);
                let gets_one = frame.source.is_ipv4() && !to.is_ipv4();
                let expected = if gets_one { becomes.bytes() } else { without_checksum(&becomes) };
                assert_eq!(output, expected, "{payload} bytes to {to:?}");
            }
        }
    });
}

#[test]
fn a_datagram_without_a_checksum_that_cannot_be_summed_does_not_become_ipv6() {
    each(|world| {
        let (from, to) = (here(true), there(false));
        let frame = Frame { payload: 1529, ..Frame::new(from.source, from.destination, Transport::Udp) };
        world.connect(&frame, to, Out::WIDE);
        world.ends("too long", Outcome::Untranslatable, &without_checksum(&frame));
        // The fragments' first: what the others carry is not there to be summed.
        let mut first = frame.fragments(64).remove(0);
        first[transport_at(&frame) + 6..][..2].fill(0);
        world.ends("a fragment", Outcome::Untranslatable, &first);
        for length in [0_u16, 7, 1529 + 8 + 1] {
            let mut bytes = without_checksum(&Frame { payload: 100, ..frame.clone() });
            bytes[transport_at(&frame) + 4..][..2].copy_from_slice(&length.to_be_bytes());
            // Of a service's packet it is looked at before.
            let outcome = match world.direction {
                Direction::Forward => Outcome::BadLength,
                Direction::Return => Outcome::Untranslatable,
            };
            world.ends("a length that is not the datagram's", outcome, &bytes);
        }
    });
}

#[test]
fn a_checksum_that_comes_out_as_none_is_written_as_its_other_zero() {
    each(|world| {
        for (frame, to) in flows().into_iter().filter(|(frame, _)| frame.transport == Transport::Udp) {
            world.connect(&frame, to, Out::WIDE);
            let becomes =
                |content: [u8; 2]| translated(&Frame { content: content.to_vec(), ..frame.clone() }, to);
            let checksum = |frame: &Frame| frame.bytes()[transport_at(frame) + 6..][..2].to_vec();
            // With this word more, all words sum up to ones.
            let missing: [u8; 2] = checksum(&becomes([0; 2])).try_into().unwrap();
            assert_eq!(checksum(&becomes(missing)), [0xff; 2]);
            check(world, "none", &Frame { content: missing.to_vec(), ..frame.clone() }, to);
        }
    });
}

#[test]
fn fragments_become_fragments_of_the_same_packet() {
    each(|world| {
        for (frame, to) in flows() {
            let frame = Frame { payload: 200, traffic_class: 0xb9, ..frame };
            world.connect(&frame, to, Out::WIDE);
            for options in [0, 24] {
                // IPv6's identification is twice as long: its lower half is IPv4's, and its upper half was never there.
                let frame = Frame { options, id: 0x0034, ..frame.clone() };
                for (number, fragment) in frame.fragments(64).iter().enumerate() {
                    let output = world.sent("a fragment", fragment);
                    let mut expected = translated(&frame, to);
                    if crosses(&frame, to) {
                        expected.id = if frame.source.is_ipv4() { frame.id } else { frame.id << 8 };
                    }
                    let mut expected = expected.fragments(64).remove(number);
                    if crosses(&frame, to) && frame.source.is_ipv4() {
                        // The test's own frames have the label and the identification from the same number.
                        expected[ETHERNET + 1..ETHERNET + 4].copy_from_slice(&[0x90, 0, 0]);
                        let id = ETHERNET + 40 + 4;
                        expected[id..id + 4].copy_from_slice(&u32::from(frame.id).to_be_bytes());
                    }
                    assert_eq!(output, expected, "fragment {number} of {frame:?} to {to:?}");
                }
            }
        }
    });
}

#[test]
fn fragments_whose_offsets_count_what_is_left_out_do_not_become_ipv4() {
    each(|world| {
        let frame = Frame::new(here(false).source, here(false).destination, Transport::Udp);
        world.connect(&frame, there(true), Out::WIDE);
        let frame = Frame { extensions: vec![(60, 8)], payload: 200, ..frame };
        world.ends("options behind the fragment header", Outcome::Untranslatable, &frame.fragments(64)[0]);
    });
}

#[test]
fn packets_with_a_source_route_do_not_become_ipv6() {
    // RFC 791: type, length, and a pointer that goes on at byte 4 or stands behind the last address.
    let loose = |pointer| [131, 7, pointer, 192, 0, 2, 1, 0];
    let strict = |pointer| [1, 137, 7, pointer, 192, 0, 2, 1];
    let record = [7, 7, 4, 0, 0, 0, 0, 1];
    let behind = |option: [u8; 8]| [record, option].concat();
    let unknown = |length| [0x94, length, 0, 0, 131, 7, 4, 0];
    let cases = [
        (loose(4).to_vec(), true),
        (strict(4).to_vec(), true),
        (behind(loose(4)), true),
        (behind(strict(4)), true),
        (unknown(4).to_vec(), true),
        (loose(8).to_vec(), false),
        (behind(strict(8)), false),
        (record.to_vec(), false),
        ([0, 131, 7, 4, 0, 0, 0, 0].to_vec(), false),
        (unknown(0).to_vec(), false),
        (unknown(255).to_vec(), false),
        (vec![1; 40], false),
    ];
    each(|world| {
        // Of a service's packets options are looked at before.
        if world.direction == Direction::Forward {
            return;
        }
        for (frame, to) in flows().into_iter().filter(|(frame, _)| frame.source.is_ipv4()) {
            world.connect(&frame, to, Out::WIDE);
            for (options, is_routed) in &cases {
                let frame = Frame { options: options.len(), ..frame.clone() };
                let with_options = |frame: &Frame| {
                    let mut bytes = frame.bytes();
                    bytes[ETHERNET + 20..][..options.len()].copy_from_slice(options);
                    [&bytes[..ETHERNET], &with_header_checksum(&bytes[ETHERNET..])].concat()
                };
                let input = with_options(&frame);
                if to.is_ipv4() {
                    let expected = with_options(&translated(&frame, to));
                    assert_eq!(world.sent("options are kept", &input), expected, "{options:?}");
                } else if *is_routed {
                    world.ends("a source route", Outcome::Untranslatable, &input);
                } else {
                    let expected = translated(&frame, to).bytes();
                    assert_eq!(world.sent("options are left out", &input), expected, "{options:?}");
                }
            }
        }
    });
}

#[test]
fn the_last_hop_is_none_to_spend() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            for hops in [0, 1] {
                world.ends("no hop left", Outcome::TtlExpired, &Frame { hops, ..frame.clone() }.bytes());
            }
        }
    });
}

#[test]
fn packets_of_several_buffers_are_translated() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            for payload in [4000, 8900, 20_000, 65_000] {
                check(world, "long", &Frame { payload, ..frame.clone() }, to);
            }
        }
    });
}

/// How long packets may be before they become as long as the way takes, which is 600 bytes here.
fn mtu(frame: &Frame, to: Ends) -> u16 {
    match (frame.source.is_ipv4(), to.is_ipv4()) {
        (true, false) => 580,
        (false, true) => 620,
        _ => 600,
    }
}

#[test]
fn senders_of_packets_that_become_too_long_are_told_how_long_theirs_may_be() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out { room: 600, ..Out::WIDE });
            let mtu = mtu(&frame, to);
            let fitting = Frame { payload: usize::from(mtu) - frame.headers(), ..frame.clone() };
            check(world, "as long as the way takes", &fitting, to);
            let longer = Frame { payload: fitting.payload + 1, ..fitting.clone() };
            let output = world.ends("a byte longer", Outcome::TooBigTold, &longer.bytes());
            assert_eq!(output, told(&longer, mtu), "{frame:?} to {to:?}");
            if frame.source.is_ipv4() {
                let loose = Frame { dont_fragment: false, ..longer };
                world.ends("may be fragmented", Outcome::TooBig, &loose.bytes());
            }
        }
    });
}

#[test]
fn fragments_and_errors_that_become_too_long_are_dropped() {
    each(|world| {
        for (frame, to) in flows() {
            let frame = Frame { payload: 700, ..frame };
            let fragments = frame.fragments(400);
            world.connect(&frame, to, Out::WIDE);
            world.sent("the first", &fragments[0]);
            world.connect(&frame, to, Out { room: 80, ..Out::WIDE });
            world.ends("a later fragment", Outcome::TooBig, &fragments[1]);
            let [inner, _] = about(&frame, to, 1500);
            let said = Said(if frame.source.is_ipv4() { 11 } else { 3 }, 0, [0; 4]);
            let ends = [router(frame.source.is_ipv4()), frame.destination.ip()];
            let input = error(FRAME, ends, (0, 9), said, &packet(&inner)[..600]);
            if to.is_ipv4() {
                world.sent("an error that becomes short", &input);
            } else {
                world.ends("an error that does not", Outcome::TooBig, &input);
            }
        }
    });
}

#[test]
fn without_a_way_nothing_is_sent() {
    let mut world = World::new(Direction::Forward);
    for (frame, to) in flows() {
        world.connect(&frame, to, Out { room: 0, ..Out::WIDE });
        world.ends("no way", Outcome::NoNextHop, &frame.bytes());
    }
}

#[test]
fn tags_stay_towards_backends_and_towards_clients_are_those_that_they_came_with() {
    for tags in TAGS {
        each(|world| {
            for (frame, to) in flows() {
                let here = Out { tags, ..Out::WIDE };
                world.connect(&frame, to, here);
                let expected = |output: &[u8]| tagged(&with_chance(&frame, to, output).bytes(), tags);
                let input = match world.direction {
                    Direction::Forward => tagged(&frame.bytes(), tags),
                    Direction::Return => frame.bytes(),
                };
                let output = world.sent("tagged", &input);
                assert_eq!(output, expected(&output[tags.len()..]), "{frame:?} to {to:?}");
                world.connect(&frame, to, Out { ifindex: INGRESS + 1, ..here });
                let output = world.redirected("tagged", &tagged(&frame.bytes(), TAGS[4]));
                match world.direction {
                    Direction::Forward => assert_eq!(output, with_chance(&frame, to, &output).bytes()),
                    Direction::Return => assert_eq!(output, expected(&output[tags.len()..])),
                }
            }
        });
    }
}

#[test]
fn tagged_fragments_and_errors_are_translated() {
    each(|world| {
        for (frame, to) in flows() {
            let frame = Frame { payload: 200, ..frame };
            world.connect(&frame, to, Out { ifindex: INGRESS + 1, ..Out::WIDE });
            let fragments = frame.fragments(64);
            for fragment in &fragments {
                let plain = world.redirected("a fragment", fragment);
                assert_eq!(world.redirected("tagged", &tagged(fragment, TAGS[3])), plain);
            }
            let [inner, _] = about(&frame, to, 100);
            let said = Said(if frame.source.is_ipv4() { 11 } else { 3 }, 0, [0; 4]);
            let ends = [router(frame.source.is_ipv4()), frame.destination.ip()];
            let input = error(FRAME, ends, (0, 9), said, &packet(&inner));
            let plain = world.redirected("an error", &input);
            assert_eq!(world.redirected("tagged", &tagged(&input, TAGS[3])), plain);
        }
    });
}

#[test]
fn fragments_whose_first_was_not_seen_stay_untranslated() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            let later = Frame { payload: 200, id: 0x77, ..frame.clone() }.fragments(64).remove(1);
            // Only a VIP's are dropped: whom else they are for, the host knows.
            let outcome = match world.direction {
                Direction::Forward => Outcome::OrphanFragment,
                Direction::Return => Outcome::Fragment,
            };
            assert_eq!(world.ends("an orphan", outcome, &later), later);
        }
    });
}

#[test]
fn an_error_that_quotes_less_than_64_bits_goes_into_the_host() {
    each(|world| {
        for (frame, to) in flows() {
            world.connect(&frame, to, Out::WIDE);
            let [inner, _] = about(&frame, to, 100);
            let from_ipv4 = frame.source.is_ipv4();
            let said = Said(if from_ipv4 { 11 } else { 3 }, 0, [0; 4]);
            let quotation = &packet(&inner)[..if from_ipv4 { 27 } else { 47 }];
            let ends = [router(from_ipv4), frame.destination.ip()];
            let input = error(FRAME, ends, (0, 9), said, quotation);
            assert_eq!(world.ends("a short quotation", Outcome::Truncated, &input), input);
        }
    });
}

/// An IPv4 packet with the checksum that its header should have.
fn with_header_checksum(packet: &[u8]) -> Vec<u8> {
    let (mut header, rest) = Ipv4Header::from_slice(packet).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes(), rest].concat()
}

#[test]
fn what_is_explained_of_translated_packets_is_what_then_happens() {
    each(|world| {
        let mut explainer = Explainer::load(world.lab.kernel.recipe()).unwrap();
        for (frame, to) in flows() {
            // So long that no identification is one by chance.
            let frame = Frame { payload: 1300, ..frame };
            world.connect(&frame, to, Out::WIDE);
            let [inner, _] = about(&frame, to, 100);
            let (came, _) = said(frame.source.is_ipv4(), to.is_ipv4()).remove(0);
            let ends = [router(frame.source.is_ipv4()), frame.destination.ip()];
            let mut packets = frame.fragments(640);
            packets.push(error(FRAME, ends, (0, 9), came, &packet(&inner)));
            packets.push(frame.bytes());
            packets.push(Frame { hops: 1, ..frame }.bytes());
            for packet in packets {
                let Explained { notes, output } = explainer.explain(&packet, INGRESS).unwrap();
                let verdict = world.lab.run(&packet).unwrap();
                let outcome = Outcome::ALL[usize::try_from(notes.outcome).unwrap()];
                assert_eq!(verdict.moved, [(outcome, 1)].into(), "{packet:02x?}");
                assert_eq!(output, verdict.packet, "{outcome:?}, {packet:02x?}");
            }
        }
    });
}

fn address(random: &mut Random, is_ipv4: bool) -> IpAddr {
    let octets: [u8; 16] = std::array::from_fn(|_| random.byte());
    if is_ipv4 {
        // No address that is never a host's.
        IpAddr::from([octets[0] % 100 + 1, octets[1], octets[2], octets[3]])
    } else {
        let mut octets = octets;
        octets[0] = 0x20 | octets[0] & 0x1f;
        IpAddr::from(octets)
    }
}

fn random_ends(random: &mut Random) -> Ends {
    let is_ipv4 = random.chance(2);
    let [source, destination] = [(); 2].map(|()| {
        let port = u16::from_be_bytes([random.byte(), random.byte()]);
        SocketAddr::new(address(random, is_ipv4), port)
    });
    Ends { source, destination }
}

#[test]
fn packets_between_any_ends_become_packets_between_any_others() {
    each(|world| {
        let mut random = Random(0x5eed);
        for _ in 0..2000 {
            let (mut from, to) = (random_ends(&mut random), random_ends(&mut random));
            if world.direction == Direction::Forward {
                from.destination = here(from.is_ipv4()).destination;
            }
            let transport = random.pick(&TRANSPORTS);
            let content = (0..random.below(1400)).map(|_| random.byte()).collect();
            let frame = Frame {
                content,
                hops: random.byte().max(2),
                traffic_class: random.byte(),
                dont_fragment: random.chance(2),
                id: u16::from_be_bytes([random.byte() & 0x0f, random.byte()]),
                options: 4 * random.below(11),
                ..Frame::new(from.source, from.destination, transport)
            };
            world.connect(&frame, to, Out::WIDE);
            check(world, "random", &frame, to);
        }
    });
}

/// A lab and an answer of a backend that leaves by an interface.
pub(crate) fn answer(ifindex: u32) -> (Lab, Vec<u8>) {
    let mut world = World::new(Direction::Return);
    let frame = Frame::new(here(true).source, here(true).destination, Transport::Udp);
    world.connect(&frame, there(true), Out { ifindex, ..Out::WIDE });
    (world.lab, frame.bytes())
}

/// A lab and a packet that the other version has no word for.
pub(crate) fn wordless() -> (Lab, Vec<u8>) {
    let mut world = World::new(Direction::Return);
    let frame = Frame::new(here(true).source, here(true).destination, Transport::Udp);
    world.connect(&frame, there(false), Out::WIDE);
    (world.lab, without_checksum(&Frame { payload: 2000, ..frame }))
}

/// A lab with room for so many connections, of which another has the only port, or not, and a packet without one.
pub(crate) fn stranger(transport: Transport, connections: u32, has_port: bool) -> (Lab, Vec<u8>) {
    let Ends { source, destination } = there(true).turned();
    let frame = Frame::new(source, destination, transport);
    let taken = if has_port { 1 } else { here(true).destination.port() };
    let world = World::with_one_port(connections, &frame, here(true), taken);
    (world.lab, frame.bytes())
}

/// A lab in which a connection has begun in this tick, which is as many as may, and the packet of another.
pub(crate) fn flooded(transport: Transport) -> (Lab, Vec<u8>) {
    let (mut lab, first) = stranger(transport, 8, true);
    lab.flood_limit(1).unwrap();
    lab.send(&first).unwrap();
    let Ends { mut source, destination } = there(true).turned();
    source.set_port(source.port() + 1);
    (lab, Frame::new(source, destination, transport).bytes())
}
