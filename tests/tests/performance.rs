//! Shares follow how backends do: what probes measure, and what backends say.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::{BackendView, Status};

const VIP: &str = "192.0.2.10";

/// A third of the slots moves in 20 s; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn scene(service: &str) -> Scene {
    Plot { service: service.into(), ..Plot::new(VIP, Way::L2).unwrap() }.set().unwrap()
}

fn backends(scene: &Scene) -> Vec<BackendView> {
    scene.agent.cli_json(&["backends"]).unwrap()
}

/// What part of the slots new flows go to a backend by: percent.
fn part(backends: &[BackendView], number: usize) -> u32 {
    100 * backends[number].slots / backends.iter().map(|backend| backend.slots).sum::<u32>()
}

/// Waits for the first backend's part of the slots, and for a reason that is shown with it.
fn assert_comes_to(scene: &Scene, what: &str, is: impl Fn(u32) -> bool, reason: &str) {
    let came = eventually(what, SOON, || {
        let backends = backends(scene);
        is(part(&backends, 0)) && backends[0].performance.as_deref().unwrap_or_default().contains(reason)
    });
    assert!(came.is_ok(), "{came:#?}: {:#?}", backends(scene));
}

#[test]
fn a_backend_that_answers_slowly_gets_fewer_flows_until_it_is_quick_again() {
    let scene = scene(
        "health = { kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\", fall = 100 }\n\
         performance = { by = \"latency\", floor = 25, moved = 100 }",
    );
    assert!((31..=35).contains(&part(&backends(&scene), 0)));
    scene.servers[0].set_pause(120);
    // A quarter of one beside two whole ones is a ninth.
    assert_comes_to(&scene, "the slow backend has few slots", |part| part <= 15, "answers in 1");
    let screen = scene.agent.cli(&["backends"]).unwrap();
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.contains("half of the others in"), "{screen}");
    scene.servers[0].set_pause(0);
    assert_comes_to(&scene, "it has its slots again", |part| part >= 30, "answers in");
}

#[test]
fn backends_that_report_load_get_flows_by_what_they_have_left() {
    let scene = scene(
        "health = { kind = \"heartbeat\", ttl = \"8s\" }\nperformance = { by = \"load\", floor = 10, moved = 100 }",
    );
    let beat = || {
        for (number, load) in ["0.7", "0.1", "0.1"].into_iter().enumerate() {
            let backend = scene.backend(number).unwrap().to_string();
            scene.must(&["heartbeat", "web", &backend, "--load", load]).unwrap();
        }
    };
    // 0.3 beside twice 0.9 is a seventh.
    let is = |part| {
        beat();
        part <= 18
    };
    assert_comes_to(&scene, "the loaded backend has few slots", is, "its load is 0.70");
}

#[test]
fn backends_that_say_their_load_in_answers_to_probes_get_flows_by_what_they_have_left() {
    let scene = scene(
        "health = { kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\", load_header = \"x-load\" }\n\
         performance = { by = \"load\", floor = 10, moved = 100 }",
    );
    let problems = || scene.agent.cli_json::<Status>(&["status"]).unwrap().problems;
    let of = |count| format!("service \"web\": {count} of 3 backends do not say their load");
    eventually("all are silent", SOON, || problems().iter().any(|problem| problem.starts_with(&of(3))))
        .unwrap();
    for (server, load) in scene.servers.iter().zip(["0.7", "0.1", "0.1"]) {
        server.set_load(load);
    }
    assert_comes_to(&scene, "the loaded backend has few slots", |part| part <= 18, "its load is 0.70");
    assert_eq!(problems(), [""; 0]);
    scene.servers[0].set_load("busy");
    let problem = "its header \"x-load\" is \"busy\", not a number from 0 to 1000";
    let shown = || problems().iter().any(|it| it.starts_with(&of(1)) && it.ends_with(problem));
    eventually("the problem is shown", SOON, shown).unwrap();
    let screen = String::from_utf8(scene.agent.cli(&["backends"]).unwrap().stdout).unwrap();
    assert!(screen.contains(problem), "{screen}");
    let loaded = &backends(&scene)[0];
    assert!(loaded.state == "up" && part(&backends(&scene), 0) <= 18, "{loaded:?}");
    assert_eq!(loaded.health.as_ref().unwrap().load, None);
    scene.servers[0].set_load("0.1");
    assert_comes_to(&scene, "it has its slots again", |part| part >= 30, "its load is 0.10");
    assert_eq!(problems(), [""; 0]);
}
