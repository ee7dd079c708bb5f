//! Every judgement, from made-up snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::errno::Errno;

use super::super::model::{Hop, Link, Lookup, Neighbour, Route, RouteKind, Snapshot};
use super::super::obstacle::Obstacle;
use super::super::resolve::Memory;
use super::super::{Mac, NextHop};
use super::ip;

const BACKEND: &str = "10.0.0.2";
const OWN_MAC: Mac = [2, 0, 0, 0, 0, 1];
const BACKEND_MAC: Mac = [2, 0, 0, 0, 0, 2];

fn route() -> Route {
    Route {
        kind: RouteKind::Unicast,
        ifindex: 3,
        gateway: None,
        source: Some(ip("10.0.0.1")),
        mtu: None,
        encapsulated: false,
    }
}

fn link() -> Link {
    Link { name: "eth1".to_owned(), mac: Some(OWN_MAC), mtu: 1500, up: true, carrier: true }
}

fn hop(address: &str) -> Hop {
    Hop { ifindex: 3, address: ip(address) }
}

const fn known(mac: Mac) -> Neighbour {
    Neighbour::Known { mac, stale: false }
}

/// A neighbour that answers, reached directly.
fn fine() -> Snapshot {
    looked_up(Lookup::Route(route()))
}

fn looked_up(lookup: Lookup) -> Snapshot {
    Snapshot {
        lookups: BTreeMap::from([(ip(BACKEND), lookup)]),
        links: BTreeMap::from([(3, link())]),
        neighbours: BTreeMap::from([(hop(BACKEND), known(BACKEND_MAC))]),
    }
}

fn with_link(link: Link) -> Snapshot {
    Snapshot { links: BTreeMap::from([(3, link)]), ..fine() }
}

fn with_neighbour(neighbour: Option<Neighbour>) -> Snapshot {
    Snapshot {
        neighbours: neighbour.map(|neighbour| (hop(BACKEND), neighbour)).into_iter().collect(),
        ..fine()
    }
}

fn judge(memory: &mut Memory, snapshot: &Snapshot) -> Result<NextHop, Obstacle> {
    memory.resolve(snapshot).remove(&ip(BACKEND)).unwrap()
}

fn judged(snapshot: &Snapshot) -> Result<NextHop, Obstacle> {
    judge(&mut Memory::default(), snapshot)
}

fn obstacle(snapshot: &Snapshot) -> String {
    judged(snapshot).unwrap_err().to_string()
}

#[test]
fn a_neighbour_that_answers_is_resolved() {
    let expected = NextHop {
        ifindex: 3,
        source: ip("10.0.0.1"),
        source_mac: OWN_MAC,
        destination_mac: BACKEND_MAC,
        mtu: 1500,
        direct: true,
        is_here: false,
    };
    assert_eq!(judged(&fine()), Ok(expected));
}

#[test]
fn packets_go_to_the_gateway_of_either_family() {
    for gateway in ["10.0.0.254", "fe80::1"] {
        let mac = [2, 0, 0, 0, 0, 9];
        let mut snapshot = looked_up(Lookup::Route(Route { gateway: Some(ip(gateway)), ..route() }));
        snapshot.neighbours.insert(hop(gateway), known(mac));
        assert_eq!(
            judged(&snapshot).map(|next_hop| (next_hop.destination_mac, next_hop.direct)),
            Ok((mac, false))
        );
    }
}

#[test]
fn the_mtu_is_the_routes_but_never_more_than_the_links() {
    for (mtu, expected) in [(None, 1500), (Some(1400), 1400), (Some(9000), 1500)] {
        let snapshot = looked_up(Lookup::Route(Route { mtu, ..route() }));
        assert_eq!(judged(&snapshot).map(|next_hop| next_hop.mtu), Ok(expected));
    }
}

#[test]
fn a_link_in_the_way_is_named() {
    let no_ethernet = with_link(Link { mac: None, ..link() });
    assert_eq!(obstacle(&no_ethernet), "interface eth1 has no Ethernet address");
    assert_eq!(obstacle(&with_link(Link { up: false, ..link() })), "interface eth1 is down");
    assert_eq!(obstacle(&with_link(Link { carrier: false, ..link() })), "interface eth1 is down: no carrier");
    let gone = Snapshot { links: BTreeMap::new(), ..fine() };
    assert_eq!(obstacle(&gone), "the route to 10.0.0.2 leaves through interface 3, which does not exist");
}

#[test]
fn a_route_that_leads_nowhere_is_named() {
    let obstacle = |route| obstacle(&looked_up(Lookup::Route(route)));
    let of_kind = |kind| obstacle(Route { kind, ..route() });
    assert_eq!(of_kind(RouteKind::Local), "10.0.0.2 is an address of this host");
    assert_eq!(of_kind(RouteKind::Closed("throw")), "the route to 10.0.0.2 is of type throw");
    assert_eq!(
        of_kind(RouteKind::Group("a broadcast address")),
        "10.0.0.2 is not the address of one host, but a broadcast address"
    );
    assert_eq!(
        obstacle(Route { encapsulated: true, ..route() }),
        "the route to 10.0.0.2 encapsulates packets, which is not supported"
    );
    assert_eq!(
        obstacle(Route { source: None, ..route() }),
        "this host has no address to reach 10.0.0.2 from"
    );
}

#[test]
fn a_refused_lookup_is_named() {
    let refused = |errno: Errno| obstacle(&looked_up(Lookup::Refused(errno as i32)));
    assert_eq!(refused(Errno::ENETUNREACH), "no route to 10.0.0.2");
    assert_eq!(refused(Errno::EHOSTUNREACH), "the route to 10.0.0.2 is of type unreachable");
    assert_eq!(refused(Errno::EACCES), "the route to 10.0.0.2 is of type prohibit");
    assert_eq!(refused(Errno::EINVAL), "the route to 10.0.0.2 is of type blackhole");
    assert!(refused(Errno::ENOMEM).starts_with("the kernel refused to look up the route to 10.0.0.2: "));
}

#[test]
fn a_route_that_left_with_its_interface_names_the_interface() {
    let mut memory = Memory::default();
    judge(&mut memory, &fine()).unwrap();
    let mut gone = looked_up(Lookup::Refused(Errno::ENETUNREACH as i32));
    gone.links.insert(3, Link { up: false, ..link() });
    for _ in 0..2 {
        let obstacle = judge(&mut memory, &gone).unwrap_err();
        assert_eq!(obstacle.to_string(), "no route to 10.0.0.2: interface eth1 is down");
    }
    gone.links.insert(3, link());
    assert_eq!(judge(&mut memory, &gone).unwrap_err().to_string(), "no route to 10.0.0.2");
}

#[test]
fn a_neighbour_that_never_answered_is_named() {
    let waiting = "waiting for neighbour 10.0.0.2 on eth1 to answer";
    assert_eq!(obstacle(&with_neighbour(None)), waiting);
    assert_eq!(obstacle(&with_neighbour(Some(Neighbour::Pending))), waiting);
    let silent = "neighbour 10.0.0.2 on eth1 does not answer";
    assert_eq!(obstacle(&with_neighbour(Some(Neighbour::Failed))), silent);
}

#[test]
fn a_neighbour_that_never_answers_is_not_waited_for_again_and_again() {
    let mut memory = Memory::default();
    let mut told =
        |state| judge(&mut memory, &with_neighbour(state)).map_err(|obstacle| obstacle.to_string());
    let silent = Err("neighbour 10.0.0.2 on eth1 does not answer".to_owned());
    for state in [Some(Neighbour::Failed), Some(Neighbour::Pending), None, Some(Neighbour::Pending)] {
        assert_eq!(told(state), silent);
    }
    // Once it has answered it may be waited for.
    assert!(told(Some(known(BACKEND_MAC))).is_ok());
    assert!(told(Some(Neighbour::Pending)).is_ok(), "it keeps its address");
}

#[test]
fn a_neighbour_that_stops_answering_keeps_its_address() {
    let mut memory = Memory::default();
    let before = judge(&mut memory, &fine());
    for state in [Some(Neighbour::Failed), Some(Neighbour::Pending), None, Some(Neighbour::Failed)] {
        assert_eq!(judge(&mut memory, &with_neighbour(state)), before);
    }
}

#[test]
fn a_changed_address_replaces_the_old_one() {
    let mut memory = Memory::default();
    judge(&mut memory, &fine()).unwrap();
    let mac = [2, 0, 0, 0, 0, 7];
    let after = judge(&mut memory, &with_neighbour(Some(known(mac))));
    assert_eq!(after.map(|next_hop| next_hop.destination_mac), Ok(mac));
}

#[test]
fn another_gateway_does_not_inherit_the_address() {
    let mut memory = Memory::default();
    judge(&mut memory, &fine()).unwrap();
    let rerouted = looked_up(Lookup::Route(Route { gateway: Some(ip("10.0.0.254")), ..route() }));
    let waiting = Obstacle::Waiting { neighbour: ip("10.0.0.254"), interface: "eth1".to_owned() };
    assert_eq!(judge(&mut memory, &rerouted), Err(waiting));
}

#[test]
fn another_interface_does_not_inherit_the_address() {
    let mut memory = Memory::default();
    judge(&mut memory, &fine()).unwrap();
    let mut rerouted = looked_up(Lookup::Route(Route { ifindex: 4, ..route() }));
    rerouted.links.insert(4, Link { name: "eth2".to_owned(), ..link() });
    let waiting = Obstacle::Waiting { neighbour: ip(BACKEND), interface: "eth2".to_owned() };
    assert_eq!(judge(&mut memory, &rerouted), Err(waiting));
}

#[test]
fn an_obstacle_in_between_makes_the_neighbour_answer_anew() {
    let mut memory = Memory::default();
    judge(&mut memory, &fine()).unwrap();
    judge(&mut memory, &with_link(Link { carrier: false, ..link() })).unwrap_err();
    assert!(judge(&mut memory, &with_neighbour(None)).unwrap_err().is_passing());
}

#[test]
fn an_unanswered_lookup_changes_nothing() {
    let lost = looked_up(Lookup::Unanswered(Duration::from_secs(1)));
    let text = "the kernel did not answer the lookup of the route to 10.0.0.2 within 1s";
    assert_eq!(obstacle(&lost), text);
    let mut memory = Memory::default();
    let before = judge(&mut memory, &fine());
    assert_eq!(judge(&mut memory, &lost), before);
}

#[test]
fn an_address_that_is_no_longer_wanted_is_forgotten() {
    let mut memory = Memory::default();
    judge(&mut memory, &fine()).unwrap();
    assert!(memory.resolve(&Snapshot::default()).is_empty());
    assert!(judge(&mut memory, &with_neighbour(None)).is_err());
}

#[test]
fn neighbours_are_asked_for_unless_they_are_confirmed_or_being_asked() {
    let asked = BTreeSet::from([hop(BACKEND)]);
    let stale = Neighbour::Known { mac: BACKEND_MAC, stale: true };
    for state in [None, Some(Neighbour::Failed), Some(stale)] {
        assert_eq!(with_neighbour(state).unconfirmed(), asked, "{state:?}");
    }
    for state in [Neighbour::Pending, known(BACKEND_MAC)] {
        assert!(with_neighbour(Some(state)).unconfirmed().is_empty(), "{state:?}");
    }
}

#[test]
fn nobody_is_asked_for_where_nobody_can_be() {
    for link in
        [Link { up: false, ..link() }, Link { carrier: false, ..link() }, Link { mac: None, ..link() }]
    {
        let snapshot = Snapshot { neighbours: BTreeMap::new(), ..with_link(link) };
        assert!(snapshot.unconfirmed().is_empty());
    }
    let local = looked_up(Lookup::Route(Route { kind: RouteKind::Local, ..route() }));
    assert!(Snapshot { neighbours: BTreeMap::new(), ..local }.unconfirmed().is_empty());
}
