//! The program behind ours gets what ours pass, as it came in, and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, include_bytes_aligned};
use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;
use mesh_tests::lab::{INGRESS, Lab, SEED, SIZES, Verdict};
use mesh_userspace::dataplane::kernel::Choices;

use crate::echo;
use crate::frame::{ETHERNET, Frame};
use crate::vlan::{TAGS, tagged};
use crate::world::{Expected, Way, World, opening, services, xdp};

/// A program of a test object that transmits what it gets, unchanged.
const NEXT: &str = "null";

/// Pins a program of an object, and answers where.
fn pinned(bpffs: &Path, object: &[u8], name: &str) -> Result<PathBuf> {
    let mut object = Ebpf::load(object)?;
    let program: &mut Xdp = object.program_mut(name).context("no such program")?.try_into()?;
    program.load()?;
    let path = bpffs.join(name);
    program.pin(&path)?;
    Ok(path)
}

fn next(path: PathBuf) -> Choices {
    Choices { seed: Some(SEED), answer_echo: true, next_program: Some(path) }
}

fn lab_before(object: &[u8], name: &str) -> Result<Lab> {
    Lab::prepared(SIZES, |bpffs| Ok(next(pinned(bpffs, object, name)?)))
}

static BENCH: &[u8] = include_bytes_aligned!(env!("MESHLB_BENCH_OBJECT"));

/// A world whose service packets are redirected, so that what the next program transmits cannot be theirs.
fn world() -> World {
    let lab = lab_before(BENCH, NEXT).unwrap();
    World::over(lab, BackendEntry { ifindex: INGRESS + 1, ..Way::L2.entry() })
}

#[test]
fn what_passes_goes_to_the_next_program_as_it_came() {
    let mut world = world();
    for service in services() {
        let frame = opening(&service);
        let mut others = frame.clone();
        others.destination.set_port(81);
        let mut elsewhere = frame.clone();
        elsewhere.destination.set_ip(frame.source.ip());
        let later = Frame { payload: 100, ..elsewhere }.fragments(64).remove(1);
        let mut arp = frame.bytes();
        arp[ETHERNET - 1] = 0x06;
        let cases = [
            (arp, Outcome::NotIp),
            (others.bytes(), Outcome::NotAService),
            (later, Outcome::Fragment),
            (frame.bytes()[..ETHERNET + 10].to_vec(), Outcome::Truncated),
        ];
        for (input, outcome) in cases {
            for tags in [&[][..]].into_iter().chain(TAGS) {
                let input = tagged(&input, tags);
                let verdict = world.lab.run(&input).unwrap();
                let expected = Verdict { action: xdp::TX, packet: input, moved: [(outcome, 1)].into() };
                assert_eq!(verdict, expected, "{service:?}, {tags:x?}");
            }
        }
    }
}

#[test]
fn what_is_sent_or_dropped_does_not_go_to_the_next_program() {
    let mut world = world();
    for service in services() {
        let frame = opening(&service);
        world.check_sent("sent", Way::L2, Outcome::Redirected, &frame);
        let old = Frame { hops: 1, ..frame };
        world.check("dropped", &old.bytes(), &Expected::Kept(Outcome::TtlExpired));
    }
}

#[test]
fn an_agent_that_starts_without_a_next_program_takes_the_last_ones_away_and_keeps_the_maps() {
    let mut world = world();
    let frame = opening(&services()[0]);
    let fragments = Frame { payload: 100, ..frame.clone() }.fragments(64);
    world.lab.run(&fragments[0]).unwrap();
    let mut arp = frame.bytes();
    arp[ETHERNET - 1] = 0x06;
    assert_eq!(world.lab.run(&arp).unwrap().action, xdp::TX);
    let choices = Choices { seed: None, answer_echo: true, next_program: None };
    for _ in 0..2 {
        world.lab.restart(&choices).unwrap();
        world.check("nobody behind us", &arp, &Expected::Kept(Outcome::NotIp));
    }
    assert!(world.lab.kernel.loaded().adopted);
    assert_eq!(world.lab.run(&fragments[1]).unwrap().action, xdp::REDIRECT, "what began before goes on");
    let verdict = world.lab.run(&echo::request(services()[2].vip.addr(), 8)).unwrap();
    assert_eq!(verdict, echo::answered(echo::reply(services()[2].vip.addr(), 8)), "VIPs are known at once");
}

/// Why a lab whose next program is made by `make` does not load.
fn refusal(make: impl Fn(&Path) -> Result<PathBuf>) -> String {
    let lab = Lab::prepared(SIZES, |bpffs| Ok(next(make(bpffs)?)));
    lab.err().expect("it was loaded").to_string()
}

#[test]
fn a_next_program_that_cannot_be_used_is_refused_with_advice() {
    let missing = refusal(|bpffs| Ok(bpffs.join("nothing")));
    assert!(
        missing.contains("no program is pinned at") && missing.contains("bpftool prog load"),
        "{missing}"
    );
    let single = refusal(|bpffs| pinned(bpffs, BENCH, "single"));
    assert!(single.contains("xdp.frags"), "{single}");
    let map = refusal(|bpffs| {
        let map = a_map()?;
        let path = bpffs.join("map");
        map.pin(&path)?;
        Ok(path)
    });
    assert!(map.contains("is not an XDP program"), "{map}");
}

/// A map, which is no program.
fn a_map() -> Result<MapData> {
    let mut object = Ebpf::load(BENCH)?;
    let Some(Map::Array(map)) = object.take_map("TRAFFIC") else { bail!("no map TRAFFIC") };
    Ok(map)
}
