//! Whatever comes in, nothing unexpected comes out.

use etherparse::Ipv4HeaderSlice;
use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;

use crate::echo;
use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::random::Random;
use crate::vlan::{TAGS, tagged};
use crate::world::{BACKEND, SLOTS, Way, World, action, opening, services};

const PACKETS: usize = 20_000;
/// Packets between two changes of the maps.
const STRETCH: usize = 250;
/// Longest run of random bytes.
const LONGEST: usize = 200;

/// Packets that need the whole way, and their variants with tags.
fn rare() -> Vec<Vec<u8>> {
    let plain: Vec<Frame> = services().iter().map(opening).collect();
    let long = plain.iter().map(|frame| Frame { payload: 100, ..frame.clone() });
    let fragments: Vec<Vec<u8>> = long.flat_map(|frame| frame.fragments(48)).collect();
    let chains = [&[(0, 8), (60, 16)][..], &[(43, 24), (44, 8)], &[(60, 8); 7]];
    let extended = plain[2..]
        .iter()
        .flat_map(|frame| chains.map(|chain| Frame { extensions: chain.to_vec(), ..frame.clone() }.bytes()));
    let pings = [&services()[0], &services()[2]].map(|service| echo::request(service.vip.addr(), 20));
    let plain = plain.iter().map(Frame::bytes);
    let rare: Vec<Vec<u8>> = fragments.into_iter().chain(extended).chain(pings).chain(plain).collect();
    let with_tags = rare.iter().flat_map(|packet| TAGS.map(|tags| tagged(packet, tags)));
    with_tags.chain(rare.clone()).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let plain: Vec<Frame> = services().iter().map(opening).collect();
    let options = plain[..2].iter().map(|frame| Frame { options: 24, ..frame.clone() });
    let padded = plain.iter().map(|frame| Frame { payload: 5, padding: 9, hops: 2, ..frame.clone() });
    let ended = plain.iter().map(|frame| match frame.transport {
        Transport::Tcp(_) => Frame { transport: Transport::Tcp(Flags::FinAck), ..frame.clone() },
        Transport::Udp | Transport::Other(_) => Frame { hops: 1, ..frame.clone() },
    });
    let frequent = options.chain(padded).chain(ended).chain(plain.clone()).map(|frame| frame.bytes());
    // So often that they are a half of all.
    let rare = rare();
    frequent.cycle().take(rare.len()).chain(rare.iter().cloned()).collect()
}

/// Bytes of nothing in particular, often with an IP type, so that they are looked at.
fn noise(random: &mut Random) -> Vec<u8> {
    let length = ETHERNET + random.below(LONGEST);
    let mut packet: Vec<u8> = (0..length).map(|_| random.byte()).collect();
    let ether_type = random.pick(&[[8, 0], [0x86, 0xdd], [packet[12], packet[13]]]);
    packet[12..ETHERNET].copy_from_slice(&ether_type);
    packet
}

/// A client's packet with something wrong, or nothing.
fn mutated(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.below(4) {
        let at = random.below(packet.len());
        match random.below(5) {
            0 => packet[at] ^= 1 << random.below(8),
            1 => packet[at] = random.byte(),
            2 => packet[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => packet.truncate(at.max(ETHERNET)),
            _ => packet.extend((0..random.below(64)).map(|at| u8::try_from(at).unwrap())),
        }
    }
    packet
}

fn packet(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if random.chance(4) {
        return noise(random);
    }
    let seed = seeds[random.below(seeds.len())].clone();
    mutated(random, seed)
}

/// Changes the backend and the slots; answers how packets are sent from now on.
fn change(world: &mut World, random: &mut Random) -> Way {
    let way = random.pick(&Way::ALL);
    let entry = BackendEntry { room: random.pick(&[1600, 90, 70]), ..way.entry() };
    world.lab.backend(BACKEND, entry).unwrap();
    let consult = random.chance(2);
    let slot = Slot::new(BACKEND, BACKEND, consult, consult && random.chance(2));
    world.lab.slots(SLOTS, 4 * SLOTS, slot).unwrap();
    way
}

/// What is sent is what came in, but for what its way changes.
fn assert_sent(way: Way, input: &[u8], output: &[u8]) {
    let ((tags, input), (kept, output)) = (untagged(input), untagged(output));
    assert_eq!(tags, kept);
    let overhead = way.overhead(input[12..ETHERNET] == [8, 0]);
    assert_eq!(output.len(), input.len() + overhead);
    if way == Way::L2 {
        assert_eq!(without_hops(&output), without_hops(&input));
        return;
    }
    assert_eq!(output[ETHERNET + overhead..], input[ETHERNET..]);
    if output[ETHERNET] == 0x45 {
        let outer = Ipv4HeaderSlice::from_slice(&output[ETHERNET..]).unwrap().to_header();
        assert_eq!(outer.header_checksum, outer.calc_header_checksum());
    }
}

/// A frame's tags in front of an IP packet, and the frame without them.
fn untagged(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const AT: usize = ETHERNET - 2;
    let is_tag = |at: usize| [[0x81, 0], [0x88, 0xa8]].iter().any(|tag| frame[at..].starts_with(tag));
    let tags = (0..2).take_while(|number| is_tag(AT + 4 * number)).count();
    (frame[AT..AT + 4 * tags].to_vec(), [&frame[..AT], &frame[AT + 4 * tags..]].concat())
}

/// From the IP header on, without what a hop changes.
fn without_hops(frame: &[u8]) -> Vec<u8> {
    let mut packet = frame[ETHERNET..].to_vec();
    let changes: &[usize] = if frame[12..ETHERNET] == [8, 0] { &[8, 10, 11] } else { &[7] };
    changes.iter().for_each(|at| packet[*at] = 0);
    packet
}

#[test]
fn garbage_ends_in_exactly_one_outcome_and_is_not_changed_unless_sent() {
    let mut world = World::new(Way::L2);
    let (mut random, seeds) = (Random(0x6d65_7368), seeds());
    let mut way = Way::L2;
    let mut ends = std::collections::BTreeMap::<Outcome, usize>::new();
    for number in 0..PACKETS {
        if number % STRETCH == 0 {
            way = change(&mut world, &mut random);
        }
        let input = packet(&mut random, &seeds);
        let verdict = world.lab.run(&input).unwrap();
        let moved: Vec<(Outcome, u64)> = verdict.moved.into_iter().collect();
        let [(outcome, 1)] = moved[..] else { panic!("packet {number}: {moved:?} of {input:02x?}") };
        assert_eq!(verdict.action, action(outcome), "packet {number}");
        if outcome == Outcome::Transmitted {
            assert_sent(way, &input, &verdict.packet);
        } else if outcome == Outcome::TooBigTold {
            // An error about the packet: each family's has one length.
            let (_, error) = untagged(&verdict.packet);
            assert!([70, 122].contains(&error.len()), "packet {number}");
        } else if outcome == Outcome::EchoAnswered {
            let ((_, asked), (_, reply)) = (untagged(&input), untagged(&verdict.packet));
            assert_eq!((&reply[..6], reply.len()), (&asked[6..12], asked.len()), "packet {number}");
        } else {
            assert_eq!(verdict.packet, input, "packet {number}: {outcome:?}");
        }
        *ends.entry(outcome).or_default() += 1;
    }
    println!("{ends:?}");
    // Random as it is, most ends are met: else the packets are too tame.
    assert!(ends.len() >= 12, "{ends:?}");
}
