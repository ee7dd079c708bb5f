//! Next hops: judged from made-up snapshots, followed through a made-up connection, and read from real kernels.

mod follow;
mod kernel;
mod lab;
mod message;
mod resolve;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::{NextHop, Resolution};

type Resolutions = watch::Receiver<BTreeMap<IpAddr, Resolution>>;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Waits for what is published about `address`; panics with the last of it after a while.
async fn eventually(rx: &mut Resolutions, address: &str, what: impl Fn(&Resolution) -> bool) -> Resolution {
    let address = ip(address);
    let found = rx.wait_for(|published| published.get(&address).is_some_and(&what));
    let found = timeout(Duration::from_secs(20), found).await.map(|found| found.unwrap()[&address].clone());
    found.unwrap_or_else(|_| panic!("{address} is still {:?}", rx.borrow().get(&address)))
}

async fn resolved(rx: &mut Resolutions, address: &str, what: impl Fn(&NextHop) -> bool) -> NextHop {
    let is_such = |found: &Resolution| matches!(found, Resolution::Resolved(next_hop) if what(next_hop));
    match eventually(rx, address, is_such).await {
        Resolution::Resolved(next_hop) => next_hop,
        Resolution::Unresolved { reason, .. } => panic!("{reason}"),
    }
}

async fn unresolved(rx: &mut Resolutions, address: &str, expected: &str) {
    let is_such =
        |found: &Resolution| matches!(found, Resolution::Unresolved { reason, .. } if reason == expected);
    eventually(rx, address, is_such).await;
}
