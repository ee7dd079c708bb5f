//! The prober as a whole: updates in, verdicts out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::{Key, NotAwaited, Paths, Prober, Report, State, Verdict};
use super::server::{ClosedPort, Server};
use crate::config::{Health, HttpProbe, ProbeKind, Protocol, ServiceKey};

type Verdicts = watch::Receiver<BTreeMap<Key, Verdict>>;

const DEADLINE: Duration = Duration::from_secs(10);
const OFTEN: Duration = Duration::from_millis(10);
const AT_ONCE: usize = 64;
/// Only the first probe happens within a test.
const ONCE: Duration = Duration::from_secs(3600);

fn prober() -> (Prober, Verdicts) {
    let (tx, rx) = watch::channel(BTreeMap::new());
    (Prober::new(tx, AT_ONCE, no_paths()), rx)
}

/// Paths to nobody.
fn no_paths() -> Paths {
    Paths::new(1, watch::channel(BTreeMap::new()).1)
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
    Health { kind: ProbeKind::Http(HttpProbe::get("/")), ..health(interval) }
}

fn wanted<const N: usize>(all: [(Key, Health); N]) -> BTreeMap<Key, Arc<Health>> {
    all.map(|(key, health)| (key, Arc::new(health))).into()
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
    prober.update(&wanted([(key, health(ONCE))]));
    assert_eq!(rx.borrow()[&key].state, State::Unknown);
}

#[tokio::test]
async fn the_first_probe_decides_at_once() {
    let (server, closed) = (Server::start("").await, ClosedPort::new());
    let (up, down) = (key(server.address), key(closed.address));
    let (mut prober, mut rx) = prober();
    prober.update(&wanted([(up, health(ONCE)), (down, health(ONCE))]));
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
    prober.update(&wanted([(key, Health { port: Some(server.address.port()), ..health(ONCE) })]));
    becomes(&mut rx, key, State::Up).await;
}

/// How many probes led to a state, and how many of them failed.
fn turn(verdict: &Verdict) -> (usize, usize) {
    let probes = &verdict.turn.as_ref().unwrap().probes;
    (probes.len(), probes.iter().filter(|probe| probe.error.is_some()).count())
}

#[tokio::test]
async fn a_restarted_backend_goes_down_and_comes_up_again() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(OK).await;
    let (address, key) = (server.address, key(server.address));
    let (mut prober, mut rx) = prober();
    prober.update(&wanted([(key, Health { rise: 5, ..http(OFTEN) })]));
    let first = becomes(&mut rx, key, State::Up).await;
    server.stop().await;
    let down = becomes(&mut rx, key, State::Down).await;
    assert!(down.since >= first.since && down.last_error.is_some());
    let server = Server::start_on(address, OK).await;
    let again = becomes(&mut rx, key, State::Up).await;
    assert!(again.since >= down.since && again.last_error.is_none());
    assert!(server.requests().len() >= 5, "it came up before `rise` successes");
    let fall = usize::try_from(health(OFTEN).fall).unwrap();
    assert_eq!([first, down, again].map(|verdict| turn(&verdict)), [(1, 0), (fall, fall), (5, 0)]);
}

#[tokio::test]
async fn an_unchanged_key_is_not_disturbed_by_an_update() {
    let (kept, other) = (Server::start("").await, Server::start("").await);
    let (mut prober, mut rx) = prober();
    let mut both = wanted([(key(kept.address), health(ONCE))]);
    prober.update(&both);
    let before = becomes(&mut rx, key(kept.address), State::Up).await;
    both.insert(key(other.address), Arc::new(health(ONCE)));
    prober.update(&both);
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
    prober.update(&wanted([(key, health(ONCE))]));
    let before = becomes(&mut rx, key, State::Up).await;
    server.stop().await;
    prober.update(&wanted([(key, Health { fall: 2, ..health(ONCE) })]));
    let after = eventually(&mut rx, key, |verdict| verdict.last_error.is_some()).await;
    assert_eq!((after.state, after.since), (State::Up, before.since));
    prober.update(&wanted([(key, Health { fall: 2, ..health(OFTEN) })]));
    becomes(&mut rx, key, State::Down).await;
}

#[tokio::test]
async fn a_removed_keys_probe_ends_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let key = key(listener.local_addr().unwrap());
    let (mut prober, rx) = prober();
    prober.update(&wanted([(key, Health { timeout: ONCE, ..http(ONCE) })]));
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
    prober.update(&wanted([(key, health(OFTEN))]));
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
    prober.update(&wanted([(key, http(OFTEN))]));
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

const TTL: Duration = Duration::from_millis(200);

fn heartbeat(ttl: Duration) -> Health {
    Health::new(ProbeKind::Heartbeat { ttl })
}

#[tokio::test]
async fn a_backend_that_reports_is_up_until_it_falls_silent() {
    let key = key("192.0.2.1:80".parse().unwrap());
    let (mut prober, mut rx) = prober();
    prober.update(&wanted([(key, heartbeat(TTL))]));
    prober.report(&key, Report::Well, None).unwrap();
    let up = becomes(&mut rx, key, State::Up).await;
    assert_eq!((up.latency, up.last_error), (None, None));
    let down = becomes(&mut rx, key, State::Down).await;
    assert_eq!(down.last_error.unwrap(), "the backend has not reported for 200ms");
    prober.report(&key, Report::Well, None).unwrap();
    becomes(&mut rx, key, State::Up).await;
}

#[tokio::test]
async fn a_backend_that_reports_a_failure_is_down_at_once() {
    let key = key("192.0.2.1:80".parse().unwrap());
    let (mut prober, mut rx) = prober();
    prober.update(&wanted([(key, heartbeat(ONCE))]));
    prober.report(&key, Report::Well, None).unwrap();
    becomes(&mut rx, key, State::Up).await;
    prober.report(&key, Report::Failing("no disk".into()), None).unwrap();
    let down = becomes(&mut rx, key, State::Down).await;
    assert_eq!(down.last_error.unwrap(), "the backend reports: no disk");
    assert!(down.failing.is_some());
}

#[tokio::test]
async fn a_load_is_known_until_something_else_is_said() {
    let header =
        |value: &str| format!("HTTP/1.1 200 OK\r\nX-Load: {value}\r\nContent-Length: 0\r\n\r\n").leak();
    let server = Server::start(header("0.4")).await;
    let (address, probed, reporting) =
        (server.address, key(server.address), key("192.0.2.1:80".parse().unwrap()));
    let (mut prober, mut rx) = prober();
    let asking = HttpProbe { load_header: Some("x-load".into()), ..HttpProbe::get("/") };
    let health = Health { kind: ProbeKind::Http(asking), fall: 1000, ..health(OFTEN) };
    prober.update(&wanted([(probed, health), (reporting, heartbeat(ONCE))]));
    prober.report(&reporting, Report::Well, Some(0.9)).unwrap();
    prober.report(&reporting, Report::Well, None).unwrap();
    becomes(&mut rx, probed, State::Up).await;
    assert_eq!(prober.loads(), [(probed, 0.4), (reporting, 0.9)].into());
    server.stop().await;
    let server = Server::start_on(address, header("high")).await;
    let verdict = eventually(&mut rx, probed, |verdict| verdict.load_error.is_some()).await;
    assert_eq!((verdict.state, prober.loads()), (State::Up, [(reporting, 0.9)].into()));
    server.stop().await;
    let _server = Server::start_on(address, header("0.2")).await;
    eventually(&mut rx, probed, |verdict| verdict.load_error.is_none()).await;
    assert_eq!(prober.loads()[&probed], 0.2);
}

#[tokio::test]
async fn reports_that_nobody_asked_for_are_refused() {
    let server = Server::start("").await;
    let (probed, unknown) = (key(server.address), key("192.0.2.1:80".parse().unwrap()));
    let (mut prober, _rx) = prober();
    prober.update(&wanted([(probed, health(ONCE))]));
    assert_eq!(prober.report(&probed, Report::Well, None), Err(NotAwaited));
    assert_eq!(prober.report(&unknown, Report::Well, None), Err(NotAwaited));
}

#[tokio::test]
async fn what_is_added_later_rises_and_what_was_there_from_the_start_does_not() {
    let (first, second) = (Server::start("").await, Server::start("").await);
    let (mut prober, mut rx) = prober();
    prober.update(&wanted([(key(first.address), health(ONCE))]));
    assert_eq!(becomes(&mut rx, key(first.address), State::Up).await.risen, None);
    prober.update(&wanted([(key(first.address), health(ONCE)), (key(second.address), health(ONCE))]));
    assert!(becomes(&mut rx, key(second.address), State::Up).await.risen.is_some());
}

/// What holds answers back shows how many ask at a time.
#[tokio::test]
async fn no_more_probes_are_under_way_than_may_be() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = |last| Key {
        service: ServiceKey::exact([203, 0, 113, 10].into(), port, Protocol::Tcp),
        address: [127, 0, 0, last].into(),
    };
    let (tx, mut rx) = watch::channel(BTreeMap::new());
    let mut prober = Prober::new(tx, 2, no_paths());
    let slow = Health { timeout: Duration::from_millis(300), port: Some(port), ..http(ONCE) };
    prober.update(&wanted([1, 2, 3, 4, 5].map(|last| (key(last), slow.clone()))));
    // Only 127.0.0.1 has a listener: the others are refused at once and cannot be in the way for long.
    let (held, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    for last in 2..=5 {
        becomes(&mut rx, key(last), State::Down).await;
    }
    drop(held);
    becomes(&mut rx, key(1), State::Down).await;
}

/// Ten thousand backends, each probed once a second: published without delay, and none of it costs a verdict.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_backends_are_judged() {
    let closed = ClosedPort::new();
    let key = |n: u32| Key {
        service: ServiceKey::exact([203, 0, 113, 10].into(), closed.address.port(), Protocol::Tcp),
        address: Ipv4Addr::from(0x7f01_0000 + n).into(),
    };
    let health = Arc::new(Health { interval: Duration::from_secs(1), ..health(ONCE) });
    let all: BTreeMap<_, _> = (1..=10_000).map(|n| (key(n), Arc::clone(&health))).collect();
    let (mut prober, mut rx) = prober();
    prober.update(&all);
    let down = rx.wait_for(|verdicts| {
        verdicts.len() == 10_000 && verdicts.values().all(|verdict| verdict.state == State::Down)
    });
    timeout(DEADLINE, down).await.expect("some were not judged in time").unwrap();
}
