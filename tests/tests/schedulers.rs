//! Schedulers that pick, and limits to flows, with real clients: who gets connections, and who keeps them.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Client, Download, Downloads};
use mesh_userspace::api::types::{BackendView, ServiceView};

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

/// Three backends and a spare one, under these lines of the service.
fn scene(vip: &str, way: Way, lines: &str) -> Scene {
    let mut plot = Plot { spare: 1, ..Plot::new(vip, way).unwrap() };
    plot.service = format!("{}\n{lines}", plot.service);
    plot.set().unwrap()
}

fn start(scene: &Scene, count: usize) -> Downloads {
    let download = Download::lasting(scene.service(), Duration::from_secs(6));
    let downloads = Downloads::start(&scene.client().unwrap(), count, download);
    downloads.flowing(SOON).unwrap();
    downloads
}

/// 30 downloads go on at their backends while one joins and another leaves. Answers how they are spread.
fn assert_keeps_flows(scene: &Scene) -> BTreeMap<String, u32> {
    let downloads = start(scene, 30);
    let before = downloads.spread().unwrap();
    scene.reconfigure(&[(0, 100), (1, 100), (2, 100), (3, 100)]).unwrap();
    let joined = scene.backend(3).unwrap().to_string();
    eventually("the added backend answers", SOON, || scene.answers(20).unwrap().contains_key(&joined))
        .unwrap();
    scene.reconfigure(&[(1, 100), (2, 100), (3, 100)]).unwrap();
    let left = scene.backend(0).unwrap().to_string();
    assert!(!scene.answers(40).unwrap().contains_key(&left), "a removed backend gets no new connection");
    assert_eq!(downloads.spread().unwrap(), before, "nobody changed the backend");
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!(summary.completed, 30, "{:?}", summary.failures);
    before
}

fn difference(spread: &BTreeMap<String, u32>) -> u32 {
    spread.values().max().unwrap() - spread.values().min().unwrap()
}

#[test]
fn round_robin_takes_turns_and_keeps_flows_by_direct_return() {
    let scene = scene(V4, Way::L2, "scheduler = \"round-robin\"");
    let spread = assert_keeps_flows(&scene);
    assert_eq!(spread.len(), 3, "{spread:?}");
}

#[test]
fn random_spreads_and_keeps_flows_over_ipv6() {
    let scene = scene(V6, Way::IpipV6, "scheduler = \"random\"");
    let spread = assert_keeps_flows(&scene);
    assert_eq!(spread.len(), 3, "{spread:?}");
}

/// Two chances leave no backend far behind: with chance alone 31 of 100 tries would differ by more than 6.
#[test]
fn least_connections_levels_long_flows_through_tunnels() {
    let scene = scene(V4, Way::IpipV4, "scheduler = \"least-connections\"");
    let spread = assert_keeps_flows(&scene);
    assert!(spread.len() == 3 && difference(&spread) <= 6, "{spread:?}");
}

#[test]
fn source_gives_all_flows_of_a_client_to_one_backend() {
    let scene = scene(V6, Way::L2, "scheduler = \"source\"");
    assert_eq!(scene.answers(30).unwrap().len(), 1);
}

fn service(scene: &Scene) -> ServiceView {
    let mut services: Vec<ServiceView> = scene.agent.cli_json(&["services"]).unwrap();
    services.remove(0)
}

#[test]
fn a_service_that_has_all_the_flows_it_may_have_takes_no_more_until_one_ends() {
    let scene = scene(V4, Way::L2, "max_flows = 5");
    let downloads = start(&scene, 5);
    let full = service(&scene);
    assert_eq!((full.recorded_flows, full.max_flows), (5, Some(5)));
    let backends: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
    assert_eq!(backends.iter().map(|backend| backend.recorded_flows).sum::<u64>(), 5);
    let hasty = Client::with_timeout(scene.topology.client(), Duration::from_secs(1)).unwrap();
    assert!(hasty.get(scene.service()).is_err(), "a sixth flow");
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!(summary.completed, 5, "{:?}", summary.failures);
    eventually("there is room again", SOON, || hasty.get(scene.service()).is_ok()).unwrap();
    assert!(service(&scene).recorded_flows < 5);
}
