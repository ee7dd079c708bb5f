//! Backends come, go, drain and die under 200 downloads: whose backend lives loses nothing.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Download, Downloads};
use mesh_userspace::api::types::{BackendView, FlowCount, FlowView, ServiceView};

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";
const DOWNLOADS: usize = 200;
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(90);

fn start(scene: &Scene) -> Downloads {
    let download = Download::lasting(scene.service(), Duration::from_secs(6));
    let downloads = Downloads::start(&scene.client().unwrap(), DOWNLOADS, download);
    downloads.flowing(SOON).unwrap();
    downloads
}

/// Which backends answer new connections.
fn answering(scene: &Scene) -> BTreeSet<String> {
    scene.answers(60).unwrap().into_keys().collect()
}

fn names(scene: &Scene, numbers: &[usize]) -> BTreeSet<String> {
    numbers.iter().map(|number| scene.backend(*number).unwrap().to_string()).collect()
}

/// Shares of 200 by weights 1:1:2 are 50, 50 and 100; five standard deviations of the binomial distribution are 31
/// and 36.
fn assert_by_weight(scene: &Scene, spread: &BTreeMap<String, u32>) {
    for (number, expected, tolerance) in [(0, 50u32, 31), (1, 50, 31), (2, 100, 36)] {
        let got = spread.get(&scene.backend(number).unwrap().to_string()).copied().unwrap_or(0);
        assert!(got.abs_diff(expected) <= tolerance, "backend {number} has {got} of 200: {spread:?}");
    }
}

fn assert_survives_churn(vip: &str, way: Way) {
    let plot = Plot { weights: vec![100, 100, 200], spare: 1, ..Plot::new(vip, way).unwrap() };
    let scene = plot.set().unwrap();
    let downloads = start(&scene);
    let before = downloads.spread().unwrap();
    assert_by_weight(&scene, &before);

    scene.reconfigure(&[(0, 100), (1, 100), (2, 200), (3, 400)]).unwrap();
    eventually("the added backend answers", SOON, || answering(&scene) == names(&scene, &[0, 1, 2, 3]))
        .unwrap();
    scene.must(&["drain", "web", &scene.backend(0).unwrap().to_string()]).unwrap();
    assert_eq!(answering(&scene), names(&scene, &[1, 2, 3]), "a drained backend gets no new connection");
    scene.reconfigure(&[(0, 100), (2, 200), (3, 400)]).unwrap();
    assert_eq!(answering(&scene), names(&scene, &[2, 3]), "a removed backend gets no new connection");

    let services: Vec<ServiceView> = scene.agent.cli_json(&["services"]).unwrap();
    assert!(services[0].slots.migrating > 0, "{:?}", services[0].slots);
    assert_eq!(downloads.spread().unwrap(), before, "nobody changed the backend");
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!(summary.completed, DOWNLOADS, "{:?}", summary.failures);
}

macro_rules! survives_churn {
    ($($name:ident: $vip:expr, $way:expr;)+) => {
        $(#[test]
        fn $name() {
            assert_survives_churn($vip, $way);
        })+
    };
}

survives_churn! {
    downloads_survive_churn_by_direct_return_over_ipv4: V4, Way::L2;
    downloads_survive_churn_by_direct_return_over_ipv6: V6, Way::L2;
    downloads_survive_churn_in_tunnels_over_ipv4: V4, Way::IpipV4;
    downloads_survive_churn_in_tunnels_over_ipv6: V6, Way::IpipV6;
}

fn state(scene: &Scene, address: IpAddr) -> String {
    let backends: Vec<BackendView> = scene.agent.cli_json(&["backends", "web"]).unwrap();
    backends.into_iter().find(|backend| backend.address == address.to_string()).unwrap().state
}

#[test]
fn a_killed_backend_loses_only_its_own_connections_and_comes_back() {
    let mut scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    let downloads = start(&scene);
    let dead = scene.backend(1).unwrap();
    let own = usize::try_from(downloads.spread().unwrap()[&dead.to_string()]).unwrap();
    scene.servers[1].kill();
    eventually("the probes notice", SOON, || state(&scene, dead) == "down").unwrap();
    assert_eq!(answering(&scene), names(&scene, &[0, 2]), "nobody is sent to a dead backend");
    let summary = downloads.finish(LONG).unwrap();
    assert!(summary.failures.iter().all(|failure| failure.backend == Some(dead.to_string())), "{summary:?}");
    assert_eq!(summary.failures.len(), own);

    scene.servers[1].restart().unwrap();
    eventually("the probes notice", SOON, || state(&scene, dead) == "up").unwrap();
    assert_eq!(answering(&scene), names(&scene, &[0, 1, 2]), "it is back");
}

#[test]
fn with_every_flow_recorded_flows_are_listed_and_survive_too() {
    let mut plot = Plot::new(V4, Way::L2).unwrap();
    plot.service.push_str("\ntracking = \"always\"");
    let scene = plot.set().unwrap();
    let downloads = start(&scene);
    let before = downloads.spread().unwrap();
    scene.must(&["drain", "web", &scene.backend(0).unwrap().to_string()]).unwrap();
    let flows: Vec<FlowView> = scene.agent.cli_json(&["flows", "--limit", "1000"]).unwrap();
    let mut listed = BTreeMap::<String, u32>::new();
    for flow in flows.iter().filter(|flow| flow.state == "established") {
        *listed.entry(flow.backend.clone()).or_default() += 1;
    }
    assert_eq!(listed, before, "every download is in the list");
    let counted = |more: &[&str]| -> Vec<FlowCount> {
        let usual = ["flows", "--service", "we", "--state", "established"];
        scene.agent.cli_json(&[&usual, more].concat()).unwrap()
    };
    let by_backend = counted(&["--by", "backend"]).into_iter();
    let by_backend = by_backend.map(|it| (it.backend.unwrap(), u32::try_from(it.flows).unwrap()));
    assert_eq!(by_backend.collect::<BTreeMap<_, _>>(), before, "they are counted");
    let all: u64 = before.values().copied().map(u64::from).sum();
    let last = scene.backend(2).unwrap().to_string();
    let ending = last.rsplit_once('.').map(|(_, end)| format!(".{end}")).unwrap();
    for (filter, flows) in [
        (vec!["--by", "service"], all),
        (vec!["--by", "client"], all),
        (vec!["--by", "service", "--backend", &ending], before[&last].into()),
    ] {
        assert_eq!(counted(&filter).iter().map(|it| it.flows).collect::<Vec<_>>(), [flows], "{filter:?}");
    }
    assert_eq!(counted(&["--by", "service", "--client", "203.0.113.0/24"]), []);
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!(summary.completed, DOWNLOADS, "{:?}", summary.failures);
}

#[test]
fn when_every_backend_fails_its_probes_all_are_used() {
    let scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    scene.servers.iter().for_each(|server| server.set_healthy(false));
    let panics = || {
        let services: Vec<ServiceView> = scene.agent.cli_json(&["services"]).unwrap();
        services[0].panic
    };
    eventually("the service panics", SOON, panics).unwrap();
    assert_eq!(answering(&scene), names(&scene, &[0, 1, 2]));
    scene.servers[2].set_healthy(true);
    eventually("the panic is over", SOON, || !panics()).unwrap();
    eventually("the healthy one serves alone", SOON, || answering(&scene) == names(&scene, &[2])).unwrap();
}
