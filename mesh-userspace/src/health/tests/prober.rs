//! The prober as a whole: updates in, verdicts out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::{Key, Prober, State, Verdict};
use super::server::{ClosedPort, Server};
use crate::config::{Health, ProbeKind, Protocol, ServiceKey};

type Verdicts = watch::Receiver<BTreeMap<Key, Verdict>>;

const DEADLINE: Duration = Duration::from_secs(10);
const OFTEN: Duration = Duration::from_millis(10);
/// Only the first probe happens within a test.
const ONCE: Duration = Duration::from_secs(3600);

fn prober() -> (Prober, Verdicts) {
    let (tx, rx) = watch::channel(BTreeMap::new());
    (Prober::new(tx), rx)
}

/// The key of a backend that is probed on the port of its service.
fn key(backend: SocketAddr) -> Key {
    let vip = Ipv4Addr::new(203, 0, 113, 10).into();
    Key { service: ServiceKey::exact(vip, backend.port(), Protocol::Tcp), address: backend.ip() }
}

fn health(interval: Duration) -> Health {
    Health { interval, timeout: DEADLINE, ..Health::new(ProbeKind::Tcp) }
}

fn http(interval: Duration) -> Health {
    let kind = ProbeKind::Http { path: "/".to_owned(), host: None, expect: vec![200] };
    Health { kind, ..health(interval) }
}

async fn eventually(rx: &mut Verdicts, key: Key, what: impl Fn(&Verdict) -> bool) -> Verdict {
    let found = rx.wait_for(|verdicts| verdicts.get(&key).is_some_and(&what));
    let verdicts = timeout(DEADLINE, found).await.expect("the verdict did not come in time").unwrap();
    verdicts[&key].clone()
}

async fn becomes(rx: &mut Verdicts, key: Key, state: State) -> Verdict {
    eventually(rx, key, |verdict| verdict.state == state).await
}

#[tokio::test]
async fn a_wanted_key_is_unknown_until_its_first_probe_ends() {
    let (mut prober, rx) = prober();
    let closed = ClosedPort::new();
    let key = key(closed.address);
    prober.update(&BTreeMap::from([(key, health(ONCE))]));
    assert_eq!(rx.borrow()[&key].state, State::Unknown);
}

#[tokio::test]
async fn the_first_probe_decides_at_once() {
    let (server, closed) = (Server::start("").await, ClosedPort::new());
    let (up, down) = (key(server.address), key(closed.address));
    let (mut prober, mut rx) = prober();
    prober.update(&BTreeMap::from([(up, health(ONCE)), (down, health(ONCE))]));
    let verdict = becomes(&mut rx, up, State::Up).await;
    assert!(verdict.latency.is_some() && verdict.last_error.is_none());
    let verdict = becomes(&mut rx, down, State::Down).await;
    assert!(verdict.last_error.unwrap().contains("refused the connection"));
    assert_eq!(prober.latencies().into_keys().collect::<Vec<_>>(), [up]);
}

#[tokio::test]
async fn the_configured_port_is_probed_instead_of_the_services() {
    let (server, closed) = (Server::start("").await, ClosedPort::new());
    let key = key(closed.address);
    let (mut prober, mut rx) = prober();
    prober.update(&BTreeMap::from([(key, Health { port: Some(server.address.port()), ..health(ONCE) })]));
    becomes(&mut rx, key, State::Up).await;
}

#[tokio::test]
async fn a_restarted_backend_goes_down_and_comes_up_again() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(OK).await;
    let (address, key) = (server.address, key(server.address));
    let (mut prober, mut rx) = prober();
    prober.update(&BTreeMap::from([(key, Health { rise: 5, ..http(OFTEN) })]));
    let first = becomes(&mut rx, key, State::Up).await;
    server.stop().await;
    let down = becomes(&mut rx, key, State::Down).await;
    assert!(down.since >= first.since && down.last_error.is_some());
    let server = Server::start_on(address, OK).await;
    let again = becomes(&mut rx, key, State::Up).await;
    assert!(again.since >= down.since && again.last_error.is_none());
    assert!(server.requests().len() >= 5, "it came up before `rise` successes");
}

#[tokio::test]
async fn an_unchanged_key_is_not_disturbed_by_an_update() {
    let (kept, other) = (Server::start("").await, Server::start("").await);
    let (mut prober, mut rx) = prober();
    let mut wanted = BTreeMap::from([(key(kept.address), health(ONCE))]);
    prober.update(&wanted);
    let before = becomes(&mut rx, key(kept.address), State::Up).await;
    wanted.insert(key(other.address), health(ONCE));
    prober.update(&wanted);
    assert!(prober.latencies().contains_key(&key(kept.address)), "its task was replaced");
    becomes(&mut rx, key(other.address), State::Up).await;
    assert_eq!(rx.borrow()[&key(kept.address)], before);
    assert!(kept.requests().len() <= 1, "it was probed again");
}

#[tokio::test]
async fn a_changed_health_keeps_the_state_until_enough_results_speak_against_it() {
    let server = Server::start("").await;
    let key = key(server.address);
    let (mut prober, mut rx) = prober();
    prober.update(&BTreeMap::from([(key, health(ONCE))]));
    let before = becomes(&mut rx, key, State::Up).await;
    server.stop().await;
    prober.update(&BTreeMap::from([(key, Health { fall: 2, ..health(ONCE) })]));
    let after = eventually(&mut rx, key, |verdict| verdict.last_error.is_some()).await;
    assert_eq!((after.state, after.since), (State::Up, before.since));
    prober.update(&BTreeMap::from([(key, Health { fall: 2, ..health(OFTEN) })]));
    becomes(&mut rx, key, State::Down).await;
}

#[tokio::test]
async fn a_removed_keys_probe_ends_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let key = key(listener.local_addr().unwrap());
    let (mut prober, rx) = prober();
    prober.update(&BTreeMap::from([(key, Health { timeout: ONCE, ..http(ONCE) })]));
    let (mut probe, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    prober.update(&BTreeMap::new());
    assert!(rx.borrow().is_empty());
    let mut request = Vec::new();
    let _ = timeout(DEADLINE, probe.read_to_end(&mut request)).await.expect("the probe is still connected");
}

#[tokio::test]
async fn every_task_ends_with_the_prober() {
    let server = Server::start("").await;
    let key = key(server.address);
    let (mut prober, mut rx) = prober();
    prober.update(&BTreeMap::from([(key, health(OFTEN))]));
    becomes(&mut rx, key, State::Up).await;
    drop(prober);
    let closed = async { while rx.changed().await.is_ok() {} };
    timeout(DEADLINE, closed).await.expect("a task still holds the sender");
}

#[tokio::test]
async fn repeated_results_are_no_news() {
    let server = Server::start("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await;
    let key = key(server.address);
    let (mut prober, mut rx) = prober();
    prober.update(&BTreeMap::from([(key, http(OFTEN))]));
    becomes(&mut rx, key, State::Down).await;
    rx.mark_unchanged();
    let probed = async {
        while server.requests().len() < 20 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, probed).await.expect("probing stopped");
    assert!(!rx.has_changed().unwrap());
}
