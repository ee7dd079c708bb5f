//! The real kernel: routes, neighbours and links in network namespaces.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::super::{Mac, NextHop, Resolution, Resolver};
use super::lab::in_lab;
use super::{Resolutions, ip, resolved, unresolved};

const HOST: Mac = [2, 0, 0, 0, 0, 1];
const PEER: Mac = [2, 0, 0, 0, 0, 2];

async fn follow(addresses: &[&str]) -> (Resolver, Resolutions) {
    let (tx, rx) = watch::channel(BTreeMap::new());
    let resolver = Resolver::start(tx).await.unwrap();
    resolver.want(addresses.iter().map(|address| ip(address)).collect());
    (resolver, rx)
}

fn to_peer(next_hop: &NextHop) -> bool {
    next_hop.destination_mac == PEER
}

#[test]
fn neighbours_of_both_families_are_resolved() {
    in_lab(async |_lab| {
        let (_resolver, mut rx) = follow(&["10.99.0.2", "fd99::2"]).await;
        for (address, source) in [("10.99.0.2", "10.99.0.1"), ("fd99::2", "fd99::1")] {
            let found = resolved(&mut rx, address, to_peer).await;
            let ifindex = nix::net::if_::if_nametoindex("eth0").unwrap();
            let expected = NextHop {
                ifindex,
                source: ip(source),
                source_mac: HOST,
                destination_mac: PEER,
                mtu: 1500,
                direct: true,
                is_here: false,
            };
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn a_neighbour_that_changes_its_address_is_followed() {
    in_lab(async |lab| {
        lab.host.sysctl("ipv4/neigh/eth0/locktime", "0");
        lab.peer.sysctl("ipv4/conf/eth0/arp_notify", "1");
        let (_resolver, mut rx) = follow(&["10.99.0.2"]).await;
        resolved(&mut rx, "10.99.0.2", to_peer).await;
        lab.peer.ip("link set eth0 address 02:00:00:00:00:77");
        resolved(&mut rx, "10.99.0.2", |next_hop| next_hop.destination_mac == [2, 0, 0, 0, 0, 0x77]).await;
    });
}

#[test]
fn a_neighbour_that_stops_answering_keeps_its_address() {
    in_lab(async |lab| {
        lab.host.sysctl("ipv4/neigh/eth0/retrans_time_ms", "20");
        let (resolver, mut rx) = follow(&["10.99.0.2"]).await;
        let before = resolved(&mut rx, "10.99.0.2", to_peer).await;
        lab.peer.ip("address del 10.99.0.2/24 dev eth0");
        lab.host.ip("neigh change 10.99.0.2 dev eth0 nud failed");
        resolver.want(BTreeSet::from([ip("10.99.0.2"), ip("10.99.0.77")]));
        unresolved(&mut rx, "10.99.0.77", "neighbour 10.99.0.77 on eth0 does not answer").await;
        assert_eq!(rx.borrow()[&ip("10.99.0.2")], Resolution::Resolved(before));
        lab.host.ip("link set eth0 mtu 1400");
        resolved(&mut rx, "10.99.0.2", |next_hop| next_hop.mtu == 1400 && to_peer(next_hop)).await;
    });
}

#[test]
fn a_stale_address_that_is_wrong_is_corrected_without_traffic() {
    in_lab(async |lab| {
        lab.host.sysctl("ipv4/neigh/eth0/retrans_time_ms", "20");
        lab.host.sysctl("ipv4/neigh/eth0/delay_first_probe_time", "1");
        lab.host.ip("neigh add 10.99.0.2 dev eth0 lladdr 02:00:00:00:00:77 nud stale");
        let (_resolver, mut rx) = follow(&["10.99.0.2"]).await;
        resolved(&mut rx, "10.99.0.2", |next_hop| !to_peer(next_hop)).await;
        resolved(&mut rx, "10.99.0.2", to_peer).await;
    });
}

#[test]
fn gateways_of_both_families_are_resolved_with_the_routes_mtu() {
    in_lab(async |lab| {
        lab.host.ip("route add 10.50.0.0/16 via 10.99.0.2 mtu 1400");
        lab.host.ip("route add 10.60.0.0/16 via inet6 fd99::2");
        lab.host.ip("route add fd50::/16 via fd99::2 mtu 1400");
        let (_resolver, mut rx) = follow(&["10.50.0.1", "10.60.0.1", "fd50::1"]).await;
        for (address, source, mtu) in
            [("10.50.0.1", "10.99.0.1", 1400), ("10.60.0.1", "10.99.0.1", 1500), ("fd50::1", "fd99::1", 1400)]
        {
            let found = resolved(&mut rx, address, to_peer).await;
            assert_eq!((found.source, found.mtu), (ip(source), mtu), "{address}");
        }
    });
}

#[test]
fn a_route_that_comes_and_goes_is_followed() {
    in_lab(async |lab| {
        let (_resolver, mut rx) = follow(&["10.50.0.1", "fd50::1"]).await;
        unresolved(&mut rx, "10.50.0.1", "no route to 10.50.0.1").await;
        unresolved(&mut rx, "fd50::1", "no route to fd50::1").await;
        for (prefix, gateway, address) in
            [("10.50.0.0/16", "10.99.0.2", "10.50.0.1"), ("fd50::/16", "fd99::2", "fd50::1")]
        {
            lab.host.ip(&format!("route add {prefix} via {gateway}"));
            resolved(&mut rx, address, to_peer).await;
            lab.host.ip(&format!("route del {prefix}"));
            unresolved(&mut rx, address, &format!("no route to {address}")).await;
        }
    });
}

#[test]
fn an_interface_that_goes_down_and_up_is_followed() {
    in_lab(async |lab| {
        let (_resolver, mut rx) = follow(&["10.99.0.2"]).await;
        resolved(&mut rx, "10.99.0.2", to_peer).await;
        lab.host.ip("link set eth0 down");
        unresolved(&mut rx, "10.99.0.2", "no route to 10.99.0.2: interface eth0 is down").await;
        lab.host.ip("link set eth0 up");
        resolved(&mut rx, "10.99.0.2", to_peer).await;
    });
}

#[test]
fn a_cable_that_is_pulled_and_plugged_is_followed() {
    in_lab(async |lab| {
        let (_resolver, mut rx) = follow(&["10.99.0.2"]).await;
        resolved(&mut rx, "10.99.0.2", to_peer).await;
        lab.peer.ip("link set eth0 down");
        unresolved(&mut rx, "10.99.0.2", "interface eth0 is down: no carrier").await;
        lab.peer.ip("link set eth0 up");
        resolved(&mut rx, "10.99.0.2", to_peer).await;
    });
}

#[test]
fn routes_that_lead_nowhere_are_named() {
    in_lab(async |lab| {
        let mut expected = BTreeMap::new();
        for (kind, number) in [("blackhole", 1), ("unreachable", 2), ("prohibit", 3)] {
            for address in [format!("10.50.0.{number}"), format!("fd50::{number}")] {
                lab.host.ip(&format!("route add {kind} {address}"));
                expected.insert(address.clone(), format!("the route to {address} is of type {kind}"));
            }
        }
        let wanted: Vec<&str> = expected.keys().map(String::as_str).collect();
        let (_resolver, mut rx) = follow(&wanted).await;
        for (address, reason) in &expected {
            unresolved(&mut rx, address, reason).await;
        }
    });
}

#[test]
fn addresses_that_are_no_other_host_on_an_ethernet_are_named() {
    in_lab(async |lab| {
        lab.host.ip("route add 10.70.0.0/16 dev lo");
        let (_resolver, mut rx) =
            follow(&["10.99.0.1", "fd99::1", "127.0.0.1", "10.99.0.255", "10.70.0.1"]).await;
        for own in ["10.99.0.1", "fd99::1", "127.0.0.1"] {
            unresolved(&mut rx, own, &format!("{own} is an address of this host")).await;
        }
        let broadcast = "10.99.0.255 is not the address of one host, but a broadcast address";
        unresolved(&mut rx, "10.99.0.255", broadcast).await;
        unresolved(&mut rx, "10.70.0.1", "interface lo has no Ethernet address").await;
    });
}

#[test]
fn a_thousand_addresses_are_resolved() {
    in_lab(async |lab| {
        lab.host.ip("route add 10.50.0.0/16 via 10.99.0.2");
        let addresses: Vec<String> =
            (0..1000).map(|i| format!("10.50.{}.{}", i / 250, i % 250 + 1)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let (_resolver, mut rx) = follow(&addresses).await;
        for address in addresses {
            resolved(&mut rx, address, to_peer).await;
        }
    });
}
