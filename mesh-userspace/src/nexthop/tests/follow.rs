//! The loop, over a connection that fails on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::super::follow::{Session, Source};
use super::super::model::{Hop, Link, Lookup, Neighbour, Route, RouteKind, Snapshot};
use super::super::{Mac, NextHopError, Resolver};
use super::{ip, resolved, unresolved};

const BACKEND: &str = "10.0.0.2";
const HOP: Hop = Hop { ifindex: 3, address: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)) };

/// A kernel with one neighbour, whose connection can break.
#[derive(Clone)]
struct Double {
    /// None: the connection is broken, and cannot be opened.
    neighbour: watch::Sender<Option<Option<Neighbour>>>,
    opened: watch::Sender<u32>,
    asked: Arc<Mutex<Vec<Hop>>>,
}

struct Line {
    double: Double,
    changes: watch::Receiver<Option<Option<Neighbour>>>,
}

impl Double {
    fn new(neighbour: Option<Neighbour>) -> Self {
        Self {
            neighbour: watch::Sender::new(Some(neighbour)),
            opened: watch::Sender::new(0),
            asked: Arc::default(),
        }
    }

    fn state(&self) -> Result<Option<Neighbour>, NextHopError> {
        self.neighbour.borrow().ok_or(NextHopError::Ended)
    }
}

impl Source for Double {
    type Session = Line;

    async fn open(&mut self) -> Result<Line, NextHopError> {
        self.opened.send_modify(|opened| *opened += 1);
        self.state().or(Err(io::Error::from(io::ErrorKind::OutOfMemory)))?;
        Ok(Line { double: self.clone(), changes: self.neighbour.subscribe() })
    }
}

impl Session for Line {
    async fn snapshot(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<Snapshot, NextHopError> {
        let neighbour = self.double.state()?;
        let route = Route {
            kind: RouteKind::Unicast,
            ifindex: 3,
            gateway: None,
            source: Some(ip("10.0.0.1")),
            mtu: None,
            encapsulated: false,
        };
        let link = Link { name: "eth0".to_owned(), mac: Some(mac(1)), mtu: 1500, up: true, carrier: true };
        Ok(Snapshot {
            lookups: wanted.iter().map(|address| (*address, Lookup::Route(route))).collect(),
            links: BTreeMap::from([(3, link)]),
            neighbours: neighbour.map(|neighbour| (HOP, neighbour)).into_iter().collect(),
        })
    }

    async fn ask_for(&mut self, hop: Hop) -> Result<(), NextHopError> {
        self.double.asked.lock().unwrap().push(hop);
        Ok(())
    }

    async fn changed(&mut self) -> Result<(), NextHopError> {
        self.changes.changed().await.unwrap();
        self.double.state().map(|_| ())
    }

    fn mark_unchanged(&mut self) {
        self.changes.mark_unchanged();
    }
}

const fn mac(last: u8) -> Mac {
    [2, 0, 0, 0, 0, last]
}

const fn known(last: u8) -> Option<Neighbour> {
    Some(Neighbour::Known { mac: mac(last), stale: false })
}

async fn followed(double: &Double) -> (Resolver, super::Resolutions) {
    let (tx, rx) = watch::channel(BTreeMap::new());
    let resolver = Resolver::start_with(double.clone(), tx).await.unwrap();
    resolver.want(BTreeSet::from([ip(BACKEND)]));
    (resolver, rx)
}

#[tokio::test]
async fn a_lost_connection_keeps_the_last_next_hops_and_is_opened_again() {
    let double = Double::new(known(2));
    let (_resolver, mut rx) = followed(&double).await;
    let before = resolved(&mut rx, BACKEND, |_| true).await;
    double.neighbour.send_replace(None);
    let mut opened = double.opened.subscribe();
    let retried = opened.wait_for(|opened| *opened >= 3);
    tokio::time::timeout(Duration::from_secs(20), retried).await.expect("it gave up").unwrap();
    assert_eq!(resolved(&mut rx, BACKEND, |_| true).await, before);
    double.neighbour.send_replace(Some(known(3)));
    resolved(&mut rx, BACKEND, |next_hop| next_hop.destination_mac == mac(3)).await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_opened_at_the_start_is_reported() {
    let double = Double::new(None);
    double.neighbour.send_replace(None);
    let error = Resolver::start_with(double, watch::Sender::new(BTreeMap::new())).await.unwrap_err();
    assert!(error.to_string().starts_with("could not open a netlink socket: "), "{error}");
}

#[tokio::test]
async fn a_missing_neighbour_is_asked_for_and_followed() {
    let double = Double::new(None);
    let (_resolver, mut rx) = followed(&double).await;
    unresolved(&mut rx, BACKEND, "waiting for neighbour 10.0.0.2 on eth0 to answer").await;
    double.neighbour.send_replace(Some(known(2)));
    resolved(&mut rx, BACKEND, |next_hop| next_hop.destination_mac == mac(2)).await;
    assert!(double.asked.lock().unwrap().contains(&HOP));
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_no_longer_published() {
    let double = Double::new(known(2));
    let (resolver, mut rx) = followed(&double).await;
    resolved(&mut rx, BACKEND, |_| true).await;
    resolver.want(BTreeSet::new());
    let emptied = rx.wait_for(BTreeMap::is_empty);
    tokio::time::timeout(Duration::from_secs(20), emptied).await.expect("it is still published").unwrap();
}

#[tokio::test]
async fn dropping_the_resolver_ends_its_task() {
    let (resolver, mut rx) = followed(&Double::new(known(2))).await;
    resolved(&mut rx, BACKEND, |_| true).await;
    drop(resolver);
    let closed = async { while rx.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the task still runs");
}
