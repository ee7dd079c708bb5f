//! Millions of packets, most of them odd, through the loaded program and the same source on the host: both do the same to
//! each, and what they send is right.
//!
//! `MESHLB_FUZZ_PACKETS` and `MESHLB_FUZZ_SEED` say how many and which; a failure names both, and the packet.

use std::env;
use std::time::{Duration, Instant};

use etherparse::checksum::Sum16BitWords;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use mesh_common::flow::Ticks;
use mesh_common::outcome::Outcome;
use mesh_common::schedule::{MAGLEV, ROUND_ROBIN, SOURCE};
use mesh_userspace::dataplane::Dataplane as _;
use nix::sched::sched_getcpu;

use crate::explain::World;
use crate::frame::{ETHERNET, Frame};
use crate::random::Random;
use crate::twin::{Twin, forget_fragments, state};
use crate::vlan::{TAGS, tagged};
use crate::world::{Way, opening, services, xdp};

/// Packets, unless `MESHLB_FUZZ_PACKETS` says another number.
const PACKETS: usize = 200_000;

/// Packets between two changes of the maps, and between two looks at the counters and the clock.
const STRETCH: usize = 4000;
const BATCH: usize = 100;

/// Longest packet: what fits one buffer.
const LONGEST: usize = 1600;

/// What depends on chance cannot be compared: `random` and `least-connections` are not here.
const SCHEDULERS: [u32; 3] = [MAGLEV, SOURCE, ROUND_ROBIN];

fn number(name: &str) -> Option<usize> {
    env::var(name).ok().map(|number| number.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Makes packets of any kind odd.
struct Generator {
    /// Packets that were there, for splices.
    before: Vec<Vec<u8>>,
}

impl Generator {
    fn packet(&mut self, world: &mut World) -> Vec<u8> {
        let valid = world.packet();
        let random = &mut world.random;
        if self.before.len() < 64 {
            self.before.push(valid.clone());
        } else {
            let at = random.below(64);
            self.before[at].clone_from(&valid);
        }
        let mut packet = match random.below(8) {
            0 => valid,
            1 => self.splice(random, &valid),
            2 => tagged(&valid, random.pick(&TAGS)),
            _ => mutated(random, valid),
        };
        // Else nearly all would end there.
        if !random.chance(8) {
            mend(&mut packet);
        }
        packet.truncate(LONGEST);
        packet
    }

    /// The beginning of one packet and the end of another.
    fn splice(&self, random: &mut Random, packet: &[u8]) -> Vec<u8> {
        let other = random.pick(&self.before);
        let (at, from) = (random.below(packet.len()).max(ETHERNET), random.below(other.len()));
        [&packet[..at.min(packet.len())], &other[from..]].concat()
    }
}

/// Fields that say something about length, kind or place: where they stand behind an Ethernet header.
const FIELDS: [usize; 22] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 19, 20, 21, 22, 24, 32, 33, 40, 41, 42, 43];

fn mutated(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let at = match random.below(2) {
            0 => ETHERNET + random.pick(&FIELDS),
            _ => random.below(packet.len().min(ETHERNET + 90)),
        };
        let at = at.min(packet.len() - 1);
        match random.below(10) {
            0..=2 => packet[at] ^= 1 << random.below(8),
            3 => packet[at] = random.byte(),
            4 => packet[at] = random.pick(&[0, 1, 4, 5, 6, 17, 43, 44, 58, 60, 0x45, 0x4f, 0x7f, 0x80, 0xff]),
            5 => packet[at] = packet[at].wrapping_add(random.pick(&[1, 0xff, 8, 0xf8])),
            6 => packet.truncate(at.max(ETHERNET)),
            7 => packet.extend((0..random.below(64)).map(|at| u8::try_from(at).unwrap())),
            8 => insert_extension(random, &mut packet),
            // The length that the frame has, whatever the header said.
            _ => right_length(&mut packet),
        }
    }
    packet
}

fn is(packet: &[u8], kind: [u8; 2], header: usize) -> bool {
    packet.len() >= ETHERNET + header && packet[ETHERNET - 2..ETHERNET] == kind
}

fn insert_extension(random: &mut Random, packet: &mut Vec<u8>) {
    const NEXT: usize = ETHERNET + 6;
    if !is(packet, [0x86, 0xdd], 40) {
        return;
    }
    let mut header = [0; 8];
    let number = random.pick(&[0, 43, 44, 44, 60, 60]);
    (header[0], packet[NEXT]) = (packet[NEXT], number);
    if number == 44 {
        header[3] = random.pick(&[0, 1, 8, 9, 64, 65]);
        header[7] = u8::try_from(random.below(4)).unwrap();
    } else if random.chance(8) {
        header[random.below(8)] = random.byte();
    }
    packet.splice(ETHERNET + 40..ETHERNET + 40, header);
    right_length(packet);
}

fn right_length(packet: &mut [u8]) {
    let length = packet.len() - ETHERNET;
    if is(packet, [8, 0], 20) {
        packet[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    } else if is(packet, [0x86, 0xdd], 40) {
        packet[ETHERNET + 4..ETHERNET + 6]
            .copy_from_slice(&u16::try_from(length - 40).unwrap().to_be_bytes());
    }
}

/// Gives an IPv4 header its checksum, behind tags, too.
fn mend(packet: &mut [u8]) {
    let at = untagged(packet);
    let words = packet.get(at).filter(|first| **first >> 4 == 4).map_or(0, |first| usize::from(first & 0xf));
    if let Some(header) = packet.get_mut(at..at + 4 * words.max(5)).filter(|_| words >= 5) {
        header[10..12].fill(0);
        let sum = Sum16BitWords::new().add_slice(header).ones_complement();
        header[10..12].copy_from_slice(&sum.to_ne_bytes());
    }
}

/// Where the IP header begins.
fn untagged(packet: &[u8]) -> usize {
    let is_tag =
        |at: usize| packet.get(at..at + 2).is_some_and(|kind| matches!(kind, [0x81, 0] | [0x88, 0xa8]));
    ETHERNET + 4 * (0..2).take_while(|tag| is_tag(ETHERNET - 2 + 4 * tag)).count()
}

/// Checks a packet that leaves: lengths lie within each other, and IPv4 headers have their checksum, outer and inner.
fn check_sent(packet: &[u8]) -> Result<(), String> {
    check_ip(packet.get(untagged(packet)..).ok_or("no IP")?, true)
}

fn check_ip(packet: &[u8], is_outer: bool) -> Result<(), String> {
    let (number, payload, backend) = if packet.first().is_some_and(|first| first >> 4 == 4) {
        let slice = Ipv4HeaderSlice::from_slice(packet).map_err(|error| error.to_string())?;
        let header = slice.to_header();
        // Of the bytes themselves: the library forgets a bit that is reserved.
        if Sum16BitWords::new().add_slice(slice.slice()).ones_complement() != 0 {
            return Err("an IPv4 header with a wrong checksum".to_owned());
        }
        let whole = packet.get(..usize::from(header.total_len)).ok_or("IPv4 beyond its frame")?;
        let payload = whole.get(header.header_len()..).ok_or("IPv4 ends within its header")?;
        if header.fragment_offset.value() != 0 || header.more_fragments {
            return Ok(());
        }
        (header.protocol.0, payload, header.destination == [10, 0, 0, 1])
    } else {
        let slice = Ipv6HeaderSlice::from_slice(packet).map_err(|error| error.to_string())?;
        let header = slice.to_header();
        let length = 40 + usize::from(header.payload_length);
        let whole = packet.get(..length).ok_or("IPv6 beyond its frame")?;
        let backend =
            std::net::Ipv6Addr::from(header.destination) == "fd00::1".parse::<std::net::Ipv6Addr>().unwrap();
        (header.next_header.0, &whole[40..], backend)
    };
    match number {
        4 | 41 if is_outer && backend => check_ip(payload, false),
        17 => {
            let length = payload.get(4..6).ok_or("UDP is cut")?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            if !(8..=payload.len()).contains(&length) {
                return Err(format!("UDP says {length} bytes of {}", payload.len()));
            }
            match &payload[2..4] {
                // 6080 and 6081: GUE in its variant 1, and Geneve with options.
                [0x17, 0xc0] if is_outer && backend => check_ip(&payload[8..length], false),
                [0x17, 0xc1] if is_outer && backend => {
                    let options = usize::from(payload.get(8).ok_or("Geneve is cut")? & 0x3f) * 4;
                    check_ip(payload.get(16 + options..length).ok_or("Geneve is cut")?, false)
                }
                _ => Ok(()),
            }
        }
        6 => {
            let words = payload.get(12).ok_or("TCP is cut")? >> 4;
            let fits = (20..=payload.len()).contains(&(usize::from(words) * 4));
            if fits { Ok(()) } else { Err(format!("TCP says {words} words of {} bytes", payload.len())) }
        }
        _ => Ok(()),
    }
}

/// Both balancers, and how far they came.
struct Fuzz {
    world: World,
    twin: Twin,
    cpu: usize,
    seed: u64,
    done: usize,
    /// When the kernel's coarse clock went on, as far as it was seen.
    ticked: Option<Instant>,
}

/// A unit of the coarse clock: 2^30 ns.
const TICK: Duration = Duration::from_nanos(1 << 30);

impl Fuzz {
    fn now(&self) -> Ticks {
        self.world.lab.now().unwrap()
    }

    /// Waits until the clock has gone on: no CPU has spent any of its answers then.
    fn wait_for_tick(&mut self) {
        let before = self.now();
        while self.now() == before {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.ticked = Some(Instant::now());
    }

    /// Keeps away from where the clock goes on, so that a batch sees one time.
    fn keep_away(&mut self) {
        let since = self.ticked.map_or(TICK, |ticked| ticked.elapsed());
        let (phase, near) =
            (Duration::from_nanos_u128(since.as_nanos() % TICK.as_nanos()), Duration::from_millis(25));
        if phase + near > TICK {
            std::thread::sleep(TICK + near - phase);
        } else if phase < near {
            std::thread::sleep(near - phase);
        }
    }

    fn meet(&mut self) {
        forget_fragments(&self.world.lab);
        self.twin.copy(&self.world.lab, self.cpu);
    }

    /// Runs packets through both; `false`: the clock went on, and it has to be done again.
    fn batch(&mut self, packets: &[Vec<u8>]) -> bool {
        self.keep_away();
        let before = (self.world.lab.kernel.outcomes().unwrap(), self.twin.outcomes());
        let now = self.now();
        let kernels: Vec<_> = packets.iter().map(|packet| self.world.lab.send(packet).unwrap()).collect();
        if self.now() != now {
            self.wait_for_tick();
            return false;
        }
        for (number, (packet, kernel)) in packets.iter().zip(&kernels).enumerate() {
            let own = self.twin.run(packet, now);
            let about = || {
                let packet: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("seed {}, packet {}: {packet}", self.seed, self.done + number)
            };
            assert!(own.0 == kernel.0, "{}\nactions: kernel {}, host {}", about(), kernel.0, own.0);
            assert!(own.1 == kernel.1, "{}\nkernel {:02x?}\nhost   {:02x?}", about(), kernel.1, own.1);
            if [xdp::TX, xdp::REDIRECT].contains(&kernel.0) {
                check_sent(&kernel.1)
                    .unwrap_or_else(|wrong| panic!("{}\n{wrong}: {:02x?}", about(), kernel.1));
            } else {
                assert!(kernel.1 == *packet, "{}\nchanged: {:02x?}", about(), kernel.1);
            }
        }
        let after = (self.world.lab.kernel.outcomes().unwrap(), self.twin.outcomes());
        for (position, (outcome, count)) in after.1.into_iter().enumerate() {
            if [Outcome::Transmitted, Outcome::Redirected].contains(&outcome) {
                continue;
            }
            let kernel = after.0[&outcome] - before.0[&outcome];
            let host = count - before.1[position].1;
            assert_eq!(kernel, host, "seed {}, packets {} and on: {outcome:?}", self.seed, self.done);
        }
        true
    }

    fn stretch(&mut self, generator: &mut Generator, packets: usize) {
        let scheduler = self.world.random.pick(&SCHEDULERS);
        self.world.change(scheduler);
        self.meet();
        for first in (0..packets).step_by(BATCH) {
            let count = BATCH.min(packets - first);
            let batch: Vec<_> = (0..count).map(|_| generator.packet(&mut self.world)).collect();
            while !self.batch(&batch) {
                self.meet();
            }
            self.done += count;
        }
        let difference = state(&self.world.lab, self.cpu).difference(&self.twin.state());
        assert_eq!(difference, None, "seed {}, before packet {}", self.seed, self.done);
    }
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        // Bound to its processor from here on.
        let world = World::new(seed);
        let cpu = sched_getcpu().unwrap();
        let mut fuzz = Self { world, twin: Twin::new(), cpu, seed, done: 0, ticked: None };
        fuzz.wait_for_tick();
        fuzz
    }

    fn run(&mut self, packets: usize) {
        let mut generator = Generator { before: Vec::new() };
        while self.done < packets {
            self.stretch(&mut generator, STRETCH.min(packets - self.done));
        }
    }
}

#[test]
fn the_loaded_program_and_its_source_on_the_host_do_the_same_to_every_packet() {
    let packets = number("MESHLB_FUZZ_PACKETS").unwrap_or(PACKETS);
    let seed = u64::try_from(number("MESHLB_FUZZ_SEED").unwrap_or(1)).unwrap();
    let (mut fuzz, started) = (Fuzz::new(seed), Instant::now());
    fuzz.run(packets);
    let outcomes = fuzz.world.lab.kernel.outcomes().unwrap();
    println!("{} packets, seed {seed}, {:?}: {outcomes:?}", fuzz.done, started.elapsed());
    let missing: Vec<_> =
        outcomes.iter().filter(|(_, count)| **count == 0).map(|(outcome, _)| *outcome).collect();
    let elsewhere = [
        // Counted with their backends.
        Outcome::Transmitted,
        Outcome::Redirected,
        // A place that does not come here, as the tests of outcomes have it.
        Outcome::NoHeadroom,
        Outcome::Unhandled,
        // More in a tick than these are.
        Outcome::EchoLimited,
        // Of translation, which none of these services asks for; it is compared with another reference.
        Outcome::ReplyTransmitted,
        Outcome::ReplyRedirected,
        Outcome::NotConnected,
        Outcome::SynCookie,
        Outcome::Flooded,
        Outcome::PortsExhausted,
        Outcome::ConnectionsExhausted,
        Outcome::Untranslatable,
    ];
    assert!(missing.iter().all(|outcome| elsewhere.contains(outcome)), "never: {missing:?}");
}

#[test]
#[should_panic(expected = "seed 1, packet ")]
fn a_program_that_hashes_flows_otherwise_is_found_out() {
    let mut fuzz = Fuzz::new(1);
    fuzz.twin.disagree();
    fuzz.run(STRETCH);
}

#[test]
fn what_is_wrong_with_a_sent_packet_is_found_out() {
    for way in [Way::L2, Way::Ipv4, Way::Geneve6] {
        for service in services() {
            let frame = Frame { payload: 30, ..opening(&service) };
            let sent = way.expected(&frame);
            assert_eq!(check_sent(&sent), Ok(()), "{way:?}");
            // One byte less than it says; another source.
            assert!(check_sent(&sent[..sent.len() - 1]).is_err(), "{way:?}");
            let mut poked = sent.clone();
            let at = sent.len() - frame.ip_length() + 13;
            poked[at] ^= 1;
            assert_eq!(check_sent(&poked).is_err(), frame.source.is_ipv4(), "{way:?}");
        }
    }
}
