//! Netlink messages, read and written.

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, State};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteLwEnCapType, RouteMessage, RouteMetric, RouteType, RouteVia,
};

use super::super::message;
use super::super::model::{Hop, Neighbour, Route, RouteKind};
use super::ip;

fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> Option<Route> {
    let mut message = RouteMessage::default();
    message.header.kind = kind;
    message.attributes = attributes;
    message::route(&message)
}

#[test]
fn a_route_has_interface_gateway_source_and_mtu() {
    let attributes = vec![
        RouteAttribute::Oif(3),
        RouteAttribute::Gateway(ip("10.0.0.254").into()),
        RouteAttribute::PrefSource(ip("10.0.0.1").into()),
        RouteAttribute::Metrics(vec![RouteMetric::Advmss(1), RouteMetric::Mtu(1400)]),
    ];
    let expected = Route {
        kind: RouteKind::Unicast,
        ifindex: 3,
        gateway: Some(ip("10.0.0.254")),
        source: Some(ip("10.0.0.1")),
        mtu: Some(1400),
        encapsulated: false,
    };
    assert_eq!(route(RouteType::Unicast, attributes), Some(expected));
}

#[test]
fn a_gateway_of_the_other_family_is_read() {
    let via = RouteAttribute::Via(RouteVia::from(ip("fe80::1")));
    let route = route(RouteType::Unicast, vec![RouteAttribute::Oif(3), via]).unwrap();
    assert_eq!(route.gateway, Some(ip("fe80::1")));
}

#[test]
fn an_mtu_of_zero_is_none() {
    let metrics = RouteAttribute::Metrics(vec![RouteMetric::Mtu(0)]);
    assert_eq!(route(RouteType::Unicast, vec![RouteAttribute::Oif(3), metrics]).unwrap().mtu, None);
}

#[test]
fn a_route_through_a_tunnel_is_told_apart() {
    let tunnel = RouteAttribute::EncapType(RouteLwEnCapType::Ip);
    assert!(route(RouteType::Unicast, vec![RouteAttribute::Oif(3), tunnel]).unwrap().encapsulated);
}

#[test]
fn a_unicast_route_without_an_interface_is_not_understood() {
    assert_eq!(route(RouteType::Unicast, vec![]), None);
    let unreachable = route(RouteType::Unreachable, vec![]).unwrap();
    assert_eq!(unreachable.kind, RouteKind::Closed("unreachable"));
}

fn link(layer: LinkLayerType, flags: LinkFlags, state: State) -> super::super::model::Link {
    let mut message = LinkMessage::default();
    message.header.link_layer_type = layer;
    message.header.flags = flags;
    message.attributes = vec![
        LinkAttribute::IfName("eth1".to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        LinkAttribute::OperState(state),
    ];
    message::link(&message).1
}

#[test]
fn a_link_is_usable_when_up_and_running_or_silent_about_it() {
    for state in [State::Up, State::Unknown, State::Dormant] {
        let link = link(LinkLayerType::Ether, LinkFlags::Up, state);
        assert!(link.up && link.carrier && link.mac.is_some(), "{state:?}");
    }
    for state in [State::Down, State::LowerLayerDown, State::NotPresent] {
        assert!(!link(LinkLayerType::Ether, LinkFlags::Up, state).carrier, "{state:?}");
    }
    assert!(!link(LinkLayerType::Ether, LinkFlags::empty(), State::Down).up);
}

#[test]
fn only_ethernet_links_have_an_ethernet_address() {
    assert_eq!(link(LinkLayerType::Loopback, LinkFlags::Up, State::Unknown).mac, None);
}

fn neighbour(state: NeighbourState, mac: Option<&[u8]>) -> Option<(Hop, Neighbour)> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = 3;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::Destination(ip("fe80::1").into()));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec())));
    message::neighbour(&message)
}

#[test]
fn a_neighbours_state_says_whether_its_address_holds() {
    let hop = Hop { ifindex: 3, address: ip("fe80::1") };
    let mac = [2, 0, 0, 0, 0, 2];
    let known = |stale| Some((hop, Neighbour::Known { mac, stale }));
    assert_eq!(neighbour(NeighbourState::Reachable, Some(&mac)), known(false));
    assert_eq!(neighbour(NeighbourState::Permanent, Some(&mac)), known(false));
    assert_eq!(neighbour(NeighbourState::Stale, Some(&mac)), known(true));
    assert_eq!(neighbour(NeighbourState::Incomplete, None), Some((hop, Neighbour::Pending)));
    assert_eq!(neighbour(NeighbourState::Failed, None), Some((hop, Neighbour::Failed)));
    assert_eq!(neighbour(NeighbourState::None, None), None);
    assert_eq!(neighbour(NeighbourState::Reachable, Some(&[1, 2])), None);
}
