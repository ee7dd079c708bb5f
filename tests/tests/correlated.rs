//! Probes that fail together while clients are served: told as one event, and their backends held.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::{BackendView, Status};

const V4: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);
const BACKENDS: usize = 4;

fn scene(hold_for: &str) -> Scene {
    let file = format!("[health.correlated]\naction = \"hold\"\nhold_for = \"{hold_for}\"\n");
    let plot = Plot::new(V4, Way::IpipV4).unwrap();
    Plot { weights: vec![100; BACKENDS], file, ..plot }.set().unwrap()
}

/// A firewall on the balancer that drops probes to all backends but the first, and no packet of a client.
fn cut(scene: &Scene) {
    let cut: Vec<_> = (1..BACKENDS).map(|number| scene.backend(number).unwrap().to_string()).collect();
    let rule = format!(
        "table ip cut {{ chain out {{ type filter hook output priority 0; ip daddr {{ {} }} tcp dport 8080 drop; }}; }}",
        cut.join(", ")
    );
    nft(scene, &rule);
}

fn mend(scene: &Scene) {
    nft(scene, "delete table ip cut");
}

fn nft(scene: &Scene, rule: &str) {
    let status = scene.topology.balancer().command("nft").arg(rule).status();
    let done = status.is_ok_and(|status| status.success());
    assert!(done, "nft {rule:?}; if it is missing: apt-get install nftables");
}

fn backends(scene: &Scene) -> Vec<BackendView> {
    scene.agent.cli_json(&["backends"]).unwrap()
}

fn await_each(scene: &Scene, what: &str, is_so: impl Fn(usize, &BackendView) -> bool) {
    let all = || backends(scene).iter().enumerate().all(|(number, backend)| is_so(number, backend));
    assert!(eventually(what, SOON, all).is_ok(), "{what}: {:?}", backends(scene));
}

fn is_down(backend: &BackendView) -> bool {
    backend.health.as_ref().is_some_and(|health| health.state == "down")
}

fn problems(scene: &Scene) -> Vec<String> {
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    status.problems
}

/// How often the log has this.
fn told(scene: &Scene, what: &str) -> usize {
    scene.agent.log().matches(what).count()
}

#[test]
fn backends_that_fail_together_stay_and_one_that_fails_alone_goes() {
    let mut scene = scene("1min");
    let before: Vec<u32> = backends(&scene).iter().map(|backend| backend.slots).collect();
    cut(&scene);
    await_each(&scene, "three fail", |number, backend| is_down(backend) == (number > 0));
    await_each(&scene, "nobody goes", |number, backend| {
        let is_held = backend.health.as_ref().is_some_and(|health| health.held);
        backend.state == "up" && is_held == (number > 0)
    });
    let after: Vec<u32> = backends(&scene).iter().map(|backend| backend.slots).collect();
    assert_eq!(before, after);
    let problem = "probes of 3 of 4 backends fail at once, all together: they stay as they were";
    assert!(problems(&scene).iter().any(|it| it.starts_with(problem)), "{:?}", problems(&scene));
    let client = scene.client().unwrap();
    assert!((0..40).all(|_| client.get(scene.service()).unwrap().status == 200));
    mend(&scene);
    await_each(&scene, "all answer", |_, backend| !is_down(backend) && backend.state == "up");
    eventually("the problem is gone", SOON, || problems(&scene).is_empty()).unwrap();
    drop(scene.servers.remove(0));
    await_each(&scene, "the one is down", |number, backend| (backend.state == "down") == (number == 0));
    assert_eq!(told(&scene, "probes of many backends began to fail at once"), 1);
    assert_eq!(told(&scene, "failed at once answer again"), 1);
}

#[test]
fn backends_are_held_for_a_while_only() {
    let scene = scene("3s");
    cut(&scene);
    await_each(&scene, "they are held", |number, backend| {
        backend.health.as_ref().is_some_and(|health| health.held) == (number > 0)
    });
    await_each(&scene, "they go", |number, backend| (backend.state == "down") == (number > 0));
    assert_eq!(told(&scene, "fail still, they are down now"), 1);
    mend(&scene);
    await_each(&scene, "they come back", |_, backend| backend.state == "up");
}
