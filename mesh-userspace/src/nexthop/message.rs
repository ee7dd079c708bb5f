//! Netlink messages to and from the model; no I/O.
//!
//! Invariant: what is not understood is left out, never guessed.

use std::net::IpAddr;

use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkLayerType, LinkMessage, State,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteLwEnCapType, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Mac;
use super::model::{Hop, Link, Neighbour, Route, RouteKind};

/// Asks which way packets from this host to `address` take.
pub(super) fn get_route(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(address.into()));
    RouteNetlinkMessage::GetRoute(message)
}

/// Asks for all interfaces, without their statistics.
pub(super) fn get_links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// Asks for all neighbours of both families.
pub(super) fn get_neighbours() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default())
}

/// Makes the kernel resolve or confirm a neighbour as if it sent a packet there (`NTF_USE`).
pub(super) fn use_neighbour(hop: Hop) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(hop.address);
    message.header.ifindex = hop.ifindex;
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(hop.address.into()));
    RouteNetlinkMessage::NewNeighbour(message)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A routing decision; None without an interface, unless the type needs none.
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let kind = route_kind(message.header.kind);
    let mut route = Route { kind, ifindex: 0, gateway: None, source: None, mtu: None, encapsulated: false };
    for attribute in &message.attributes {
        apply(&mut route, attribute);
    }
    (route.ifindex != 0 || kind != RouteKind::Unicast).then_some(route)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kernel has many attributes, few matter here")]
fn apply(route: &mut Route, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Oif(ifindex) => route.ifindex = *ifindex,
        RouteAttribute::Gateway(gateway) => route.gateway = route_address(gateway),
        RouteAttribute::Via(via) => route.gateway = via_address(via),
        RouteAttribute::PrefSource(source) => route.source = route_address(source),
        RouteAttribute::Metrics(metrics) => route.mtu = metrics.iter().find_map(mtu_metric),
        RouteAttribute::EncapType(kind) => route.encapsulated = *kind != RouteLwEnCapType::None,
        _ => {}
    }
}

fn mtu_metric(metric: &RouteMetric) -> Option<u32> {
    if let RouteMetric::Mtu(mtu) = metric { Some(*mtu).filter(|mtu| *mtu > 0) } else { None }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an address is IPv4, IPv6 or of no use here")]
fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an address is IPv4, IPv6 or of no use here")]
fn via_address(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(address) => Some((*address).into()),
        RouteVia::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The names are those of `ip route`.
#[expect(clippy::wildcard_enum_match_arm, reason = "all remaining types carry no packets to a host")]
fn route_kind(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Group("a broadcast address"),
        RouteType::Multicast => RouteKind::Group("a multicast address"),
        RouteType::Anycast => RouteKind::Group("an anycast address"),
        RouteType::BlackHole => RouteKind::Closed("blackhole"),
        RouteType::Unreachable => RouteKind::Closed("unreachable"),
        RouteType::Prohibit => RouteKind::Closed("prohibit"),
        RouteType::Throw => RouteKind::Closed("throw"),
        _ => RouteKind::Closed("unknown"),
    }
}

/// An interface and its index.
pub(crate) fn link(message: &LinkMessage) -> (u32, Link) {
    let flags = message.header.flags;
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link =
        Link { name: String::new(), mac: None, mtu: 0, up: flags.contains(LinkFlags::Up), carrier: true };
    for attribute in &message.attributes {
        describe(&mut link, attribute, ethernet);
    }
    (message.header.index, link)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kernel has many attributes, few matter here")]
fn describe(link: &mut Link, attribute: &LinkAttribute, ethernet: bool) {
    match attribute {
        LinkAttribute::IfName(name) => link.name.clone_from(name),
        LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
        LinkAttribute::Address(address) if ethernet => link.mac = mac(address),
        LinkAttribute::OperState(state) => link.carrier = runs(*state),
        _ => {}
    }
}

/// RFC 2863 §3.1.14. Drivers that do not tell say "unknown".
fn runs(state: State) -> bool {
    !matches!(state, State::NotPresent | State::Down | State::LowerLayerDown)
}

/// An entry of the neighbour table; None for entries of bridges and of no address.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(Hop, Neighbour)> {
    let address = message.attributes.iter().find_map(neighbour_address)?;
    let mac = message.attributes.iter().find_map(neighbour_mac);
    let hop = Hop { ifindex: message.header.ifindex, address };
    Some((hop, neighbour_state(message.header.state, mac)?))
}

/// `NUD_VALID` states have an Ethernet address, the others do not (include/net/neighbour.h).
#[expect(clippy::wildcard_enum_match_arm, reason = "no state and unknown states mean that nothing is known")]
fn neighbour_state(state: NeighbourState, mac: Option<Mac>) -> Option<Neighbour> {
    match state {
        NeighbourState::Stale => Some(Neighbour::Known { mac: mac?, stale: true }),
        NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => Some(Neighbour::Known { mac: mac?, stale: false }),
        NeighbourState::Incomplete => Some(Neighbour::Pending),
        NeighbourState::Failed => Some(Neighbour::Failed),
        _ => None,
    }
}

fn neighbour_address(attribute: &NeighbourAttribute) -> Option<IpAddr> {
    let NeighbourAttribute::Destination(address) = attribute else { return None };
    if let NeighbourAddress::Inet(address) = address {
        return Some((*address).into());
    }
    if let NeighbourAddress::Inet6(address) = address { Some((*address).into()) } else { None }
}

fn neighbour_mac(attribute: &NeighbourAttribute) -> Option<Mac> {
    if let NeighbourAttribute::LinkLayerAddress(address) = attribute { mac(address) } else { None }
}

fn mac(address: &[u8]) -> Option<Mac> {
    address.try_into().ok()
}
