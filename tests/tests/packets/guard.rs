//! The guard of a service: whose packets are dropped, and whose go on as if there were none.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use mesh_common::abi::{ServiceEntry, flag};
use mesh_common::outcome::Outcome;
use mesh_tests::lab::{Lab, SIZES};
use mesh_userspace::config::{Admittance, Rules};
use mesh_userspace::dataplane::kernel::Sizes;
use mesh_userspace::dataplane::{Dataplane as _, Op};
use mesh_userspace::guard::Guard;

use crate::frame::Frame;
use crate::random::Random;
use crate::vlan::{TAGS, tagged};
use crate::world::{Expected, Way, World, opening, services};

/// A guard of these prefixes, or addresses, that serves everybody else.
pub(crate) fn of(prefixes: &[(&str, Admittance)]) -> Guard {
    let net =
        |text: &str| text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).unwrap();
    let prefixes = prefixes.iter().map(|(text, admittance)| (net(text), *admittance)).collect();
    let configured = Arc::new(Rules { others: Admittance::Allow, prefixes });
    Guard { configured, ordered: BTreeMap::new() }
}

fn from(frame: &Frame, client: IpAddr) -> Frame {
    Frame { source: SocketAddr::new(client, frame.source.port()), ..frame.clone() }
}

fn is_served(world: &mut World, frame: &Frame) -> bool {
    let verdict = world.lab.run_behind(0, &frame.bytes()).unwrap();
    match verdict.moved.keys().collect::<Vec<_>>()[..] {
        [Outcome::Transmitted] => true,
        [Outcome::Denied] => false,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_denied_is_dropped_by_every_way_and_others_are_sent() {
    for way in Way::ALL {
        let mut world = World::new(way);
        for (half, service) in (0..2).cycle().zip(services()) {
            let frame = opening(&service);
            let client = frame.source.ip();
            world.check_sent("before", way, Outcome::Transmitted, &frame);
            let denied = of(&[(&client.to_string(), Admittance::Deny)]);
            world.lab.guard(&[(service, denied)], half).unwrap();
            for tags in TAGS {
                let packet = tagged(&frame.bytes(), tags);
                world.check("denied", &packet, &Expected::Kept(Outcome::Denied));
            }
            let whole = IpNet::new(client, 8).unwrap().trunc().to_string();
            let exempt = of(&[(&whole, Admittance::Deny), (&client.to_string(), Admittance::Allow)]);
            world.lab.guard(&[(service, exempt)], 1 - half).unwrap();
            world.check_sent("exempt", way, Outcome::Transmitted, &frame);
        }
    }
}

#[test]
fn a_guard_without_a_policy_serves_nobody() {
    let mut world = World::new(Way::L2);
    let actual = world.lab.kernel.read().unwrap();
    for place in [0, u32::MAX] {
        for entry in actual.services.values() {
            let entry = ServiceEntry { flags: flag::GUARDED, policy: place, ..*entry };
            world.lab.kernel.apply(&Op::AddService(entry)).unwrap();
        }
        for service in services() {
            world.check("nobody", &opening(&service).bytes(), &Expected::Kept(Outcome::Denied));
        }
    }
}

#[test]
fn clients_by_chance_meet_the_verdict_of_their_longest_prefix() {
    const PREFIXES: usize = 2000;
    const CLIENTS: usize = 4000;
    let mut random = Random(7);
    let mut world = World::over(Lab::of_size(Sizes { prefixes: 8192, ..SIZES }).unwrap(), Way::L2.entry());
    let guarded: Vec<_> = services().into_iter().take(4).collect();
    let mut address = |like: IpAddr| match like {
        // Close to each other, so that prefixes lie in each other.
        IpAddr::V4(_) => {
            IpAddr::from((198 << 24 | u32::try_from(random.next() & 0x0003_0f0f).unwrap()).to_be_bytes())
        }
        IpAddr::V6(_) => {
            let low = u128::from(random.next() & 0x0f0f_0000_0000_0f0f);
            IpAddr::from((0x2001_0db8_u128 << 96 | low).to_be_bytes())
        }
    };
    let mut clients = Random(8);
    let guards: Vec<_> = guarded
        .iter()
        .map(|service| {
            let like = opening(service).source.ip();
            let prefixes = (0..PREFIXES).map(|number| {
                let length =
                    u8::try_from(clients.next() % 25).unwrap() + if like.is_ipv4() { 8 } else { 104 };
                let net = IpNet::new(address(like), length).unwrap().trunc();
                (net, if number % 2 == 0 { Admittance::Deny } else { Admittance::Allow })
            });
            let rules = Rules { others: Admittance::Allow, prefixes: prefixes.collect() };
            (*service, Guard { configured: Arc::new(rules), ordered: BTreeMap::new() })
        })
        .collect();
    world.lab.guard(&guards, 1).unwrap();
    let mut denied = 0;
    for (service, guard) in &guards {
        let frame = opening(service);
        for _ in 0..CLIENTS {
            let client = address(frame.source.ip());
            let (expected, net) = guard.verdict(client);
            let served = is_served(&mut world, &from(&frame, client));
            assert_eq!(served, expected == Admittance::Allow, "{client}: {net:?}");
            denied += usize::from(!served);
        }
    }
    assert!(denied > CLIENTS / 2, "{denied}");
}
