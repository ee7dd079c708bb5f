//! Backends that fail clients while their probes say that they are well, or while nobody probes them.

use std::time::{Duration, Instant};

use mesh_tests::scene::{PORT, Plot, Scene, Way};
use mesh_tests::{Client, HttpServer};
use mesh_userspace::api::types::BackendView;

use crate::{SOON, unprobed};

/// The port of a server that answers probes alone.
const PROBED: u16 = 9090;

/// Long enough for clients to be spared, and short enough for a test to see the end.
const PASSIVE: &str = "passive = { least = 3, window = \"20s\", hold = \"6s\", longest = \"7s\" }";

/// Longer than it takes to look through the connections twice.
const SEEN: Duration = Duration::from_secs(40);

/// How a backend fails clients, and how it ceases to.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Nothing listens.
    Refuses,
    /// Nothing comes back.
    Swallows,
}

impl Failure {
    /// The backend with the number 1 begins to.
    fn begin(self, scene: &mut Scene) {
        match self {
            Self::Refuses => scene.servers[1].kill(),
            Self::Swallows => firewall(
                scene,
                &format!(
                    "table inet swallow {{ chain in {{ type filter hook input priority 0; tcp dport {PORT} drop; }}; }}"
                ),
            ),
        }
    }

    fn end(self, scene: &mut Scene) {
        match self {
            Self::Refuses => scene.servers[1].restart().unwrap(),
            Self::Swallows => firewall(scene, "delete table inet swallow"),
        }
    }
}

/// Rules by which the backend with the number 1 swallows what clients of the service send to it.
fn firewall(scene: &Scene, rules: &str) {
    let mut command = scene.topology.backend(2).unwrap().command("nft");
    let output = command.arg(rules).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn backends(scene: &Scene) -> Vec<BackendView> {
    scene.agent.cli_json(&["backends"]).unwrap()
}

fn states(scene: &Scene) -> Vec<String> {
    backends(scene).into_iter().map(|backend| backend.state).collect()
}

/// Requests until the backends are in these states; who failed does not matter.
fn ask_until(scene: &Scene, expected: [&str; 3], within: Duration) {
    let impatient = Client::with_timeout(scene.topology.client(), Duration::from_millis(300)).unwrap();
    let deadline = Instant::now() + within;
    while states(scene) != expected {
        assert!(Instant::now() < deadline, "{:?} {}", backends(scene), scene.agent.log());
        let _ = impatient.get(scene.service());
    }
}

/// The backend with the number 1 is ejected while it fails clients, and the others are not.
fn fails_and_returns(mut scene: Scene, failure: Failure) {
    assert_eq!(scene.answers(30).unwrap().len(), 3);
    failure.begin(&mut scene);
    ask_until(&scene, ["up", "ejected", "up"], SEEN);
    // All clients are served, by the others.
    assert_eq!(scene.answers(20).unwrap().len(), 2);
    let ejected = &backends(&scene)[1];
    let reason = ejected.ejected.clone().unwrap();
    assert!(
        reason.contains("new connections it refused") && reason.contains("new ones again in"),
        "{reason}"
    );
    assert_eq!((ejected.slots, ejected.ejections), (0, 1), "{ejected:?}");
    let shown = String::from_utf8(scene.agent.cli(&["backends"]).unwrap().stdout).unwrap();
    assert!(shown.contains("ejected") && shown.contains("did not answer"), "{shown}");
    failure.end(&mut scene);
    mesh_tests::wait::eventually("it comes back", SOON, || states(&scene) == ["up"; 3]).unwrap();
    assert_eq!(scene.answers(60).unwrap().len(), 3);
    assert_eq!(states(&scene), ["up"; 3], "it is not judged by what it did before");
    let events = String::from_utf8(scene.agent.cli(&["events"]).unwrap().stdout).unwrap();
    for event in ["is ejected: it takes no new flows for a while: of ", "takes new flows again"] {
        assert!(events.contains(event), "{events}");
    }
    let ejections: Vec<u64> = backends(&scene).iter().map(|backend| backend.ejections).collect();
    assert_eq!(ejections, [0, 1, 0]);
}

#[test]
fn a_backend_that_refuses_clients_is_ejected_and_returns() {
    let plot =
        Plot { service: format!("health = {{ {PASSIVE} }}"), ..unprobed("192.0.2.10", Way::NatV4, 3, "") };
    fails_and_returns(plot.set().unwrap(), Failure::Refuses);
}

#[test]
fn a_backend_that_swallows_clients_is_ejected_and_returns_whatever_its_probes_say() {
    for (vip, way) in [("2001:db8::10", Way::NatV6), ("2001:db8::10", Way::NatV4)] {
        let health =
            format!("health = {{ kind = \"tcp\", port = {PROBED}, interval = \"200ms\", {PASSIVE} }}");
        let scene = Plot { service: health, ..Plot::new(vip, way).unwrap() }.set().unwrap();
        let probed: Vec<HttpServer> = scene
            .topology
            .backends()
            .iter()
            .map(|host| HttpServer::start(host, PROBED, "probed").unwrap())
            .collect();
        mesh_tests::wait::eventually("all are up", SOON, || states(&scene) == ["up"; 3]).unwrap();
        fails_and_returns(scene, Failure::Swallows);
        drop(probed);
    }
}

#[test]
fn no_more_than_half_are_ejected() {
    let plot =
        Plot { service: format!("health = {{ {PASSIVE} }}"), ..unprobed("192.0.2.10", Way::NatV4, 3, "") };
    let mut scene = plot.set().unwrap();
    scene.servers.iter_mut().for_each(HttpServer::kill);
    let impatient = Client::with_timeout(scene.topology.client(), Duration::from_millis(300)).unwrap();
    let deadline = Instant::now() + SEEN;
    let mut ejections = 0;
    // One returns, and another goes.
    while ejections < 3 {
        assert!(Instant::now() < deadline && impatient.get(scene.service()).is_err());
        let backends = backends(&scene);
        let out = backends.iter().filter(|backend| backend.state == "ejected").count();
        assert!(out <= 1, "{backends:?}");
        ejections = backends.iter().map(|backend| backend.ejections).sum();
    }
}
