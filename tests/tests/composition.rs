//! Services composed of groups and tiers: what operators shift and what fails moves new flows as it should, and no live
//! connection.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Download, Downloads};
use mesh_userspace::api::types::{BackendView, ServiceView, SplitReport};

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";
const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);

fn scene(vip: &str, way: Way, service: &str, members: &[&'static str]) -> Scene {
    let plot = Plot::new(vip, way).unwrap();
    let service = format!("{}\n{service}", plot.service);
    Plot { service, members: members.into(), weights: vec![100; members.len()], ..plot }.set().unwrap()
}

fn backends(scene: &Scene) -> Vec<BackendView> {
    scene.agent.cli_json(&["backends"]).unwrap()
}

/// What part of the slots some backends have: percent.
fn part(scene: &Scene, of: impl Fn(&BackendView) -> bool) -> f64 {
    let backends = backends(scene);
    let slots = |of: &dyn Fn(&BackendView) -> bool| {
        backends.iter().filter(|backend| of(backend)).map(|backend| f64::from(backend.slots)).sum::<f64>()
    };
    100.0 * slots(&of) / slots(&|_| true)
}

fn canary(scene: &Scene) -> f64 {
    part(scene, |backend| backend.group == "canary")
}

fn lower_tier(scene: &Scene) -> f64 {
    part(scene, |backend| backend.priority > 0)
}

fn assert_near(is: f64, should: f64) {
    assert!((is - should).abs() < 0.3, "{is} %, should be {should} %");
}

/// How many of 200 new connections the last backend answers.
fn answered_by_last(scene: &Scene) -> u32 {
    let last = scene.servers.last().unwrap().name().to_owned();
    scene.answers(200).unwrap().get(&last).copied().unwrap_or(0)
}

fn downloads(scene: &Scene, count: usize, length: Duration) -> Downloads {
    let client = scene.client().unwrap();
    let downloads = Downloads::start(&client, count, Download::lasting(scene.service(), length));
    downloads.flowing(SOON).unwrap();
    downloads
}

const GROUPS: [&str; 4] =
    ["group = \"stable\"", "group = \"stable\"", "group = \"stable\"", "group = \"canary\""];
const SPLIT: &str = "[service.split]\nstable = 95\ncanary = 5";

/// Weights that the group's part is shared by must not count between groups: the canary has a quarter of them.
#[test]
fn a_split_is_shifted_live_and_no_connection_breaks() {
    let mut scene = scene(V4, Way::L2, SPLIT, &GROUPS);
    assert_near(canary(&scene), 5.0);
    assert!(answered_by_last(&scene) <= 30);
    let downloads = downloads(&scene, 60, Duration::from_secs(12));
    let before = downloads.spread().unwrap();
    let report: SplitReport = scene.agent.cli_json(&["split", "web", "canary=80", "stable=20"]).unwrap();
    assert!(!report.is_configured_split && report.forgotten.is_none());
    assert_near(canary(&scene), 80.0);
    assert!((125..=190).contains(&answered_by_last(&scene)));
    // As orders do, over a crash and a reload.
    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    scene.reconfigure(&[(0, 100), (1, 100), (2, 50), (3, 100)]).unwrap();
    assert_near(canary(&scene), 80.0);
    scene.must(&["split", "web", "canary=0"]).unwrap();
    assert_eq!(answered_by_last(&scene), 0);
    let view = backends(&scene).pop().unwrap();
    assert_eq!((view.state.as_str(), view.group.as_str(), view.slots), ("draining", "canary", 0));
    assert_eq!(view.held_back.as_deref(), Some("its group canary has the share 0"));
    scene.must(&["split", "web", "--reset"]).unwrap();
    assert_near(canary(&scene), 5.0);
    assert_eq!(downloads.spread().unwrap(), before);
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!((summary.completed, summary.failures.len()), (60, 0), "{:?}", summary.failures);
}

#[test]
fn orders_that_cannot_be_meant_are_refused_with_what_could_be() {
    let scene = scene(V4, Way::L2, SPLIT, &GROUPS);
    let refused = |arguments: &[&str], what: &str| {
        let output = scene.agent.cli(arguments).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(what), "{arguments:?}: {said}");
    };
    refused(&["split", "web", "canry=5"], "its groups are: canary, stable");
    refused(&["split", "web", "canary=0", "stable=0"], "leaves no group of service \"web\" a share");
    refused(&["split", "nobody", "canary=5"], "there is no service \"nobody\"");
    assert_near(canary(&scene), 5.0);
    // A group that fails gives its part to the other, and gets it back.
    scene.servers[3].set_healthy(false);
    eventually("the canary has no slots", SOON, || canary(&scene) == 0.0).unwrap();
    scene.servers[3].set_healthy(true);
    eventually("the canary has its slots", SOON, || canary(&scene) > 4.0).unwrap();
    let shown = String::from_utf8(scene.agent.cli(&["services"]).unwrap().stdout).unwrap();
    assert!(shown.contains("canary 5: 5.0 %, stable 95: 95.0 %"), "{shown}");
}

#[test]
fn a_service_without_a_split_says_how_to_get_one() {
    let scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    let output = scene.agent.cli(&["split", "web", "canary=5"]).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("write [service.split]"), "{said}");
}

#[test]
fn a_lower_tier_takes_over_in_proportion_and_gives_back() {
    for (vip, way) in [(V4, Way::L2), (V6, Way::IpipV6)] {
        let tiers = ["", "", "priority = 1", "priority = 1"];
        let mut scene = scene(vip, way, "spill_over_below = 80", &tiers);
        let [first, second] = [0, 1].map(|number| scene.backend(number).unwrap().to_string());
        assert_near(lower_tier(&scene), 0.0);
        assert_eq!(backends(&scene)[2].state, "standby");
        let downloads = downloads(&scene, 40, Duration::from_secs(15));
        let on = downloads.spread().unwrap();
        assert_eq!(on.keys().collect::<Vec<_>>(), [&first, &second]);
        // Half of the weight of 80 per cent: 62.5 per cent.
        scene.must(&["drain", "web", &first]).unwrap();
        assert_near(lower_tier(&scene), 37.5);
        let tiers: BTreeMap<u16, f64> =
            services(&scene)[0].tiers.iter().map(|it| (it.priority, it.percent)).collect();
        assert_near(tiers[&1], 37.5);
        let answers = scene.answers(200).unwrap();
        assert!(!answers.contains_key(&first) && (90..=160).contains(&answers[&second]), "{answers:?}");
        // The rest of the upper tier dies, and only what it has breaks.
        scene.servers[1].kill();
        eventually("the lower tier has all", SOON, || lower_tier(&scene) == 100.0).unwrap();
        assert!(!scene.answers(20).unwrap().contains_key(&second));
        let summary = downloads.finish(LONG).unwrap();
        assert_eq!(summary.completed, usize::try_from(on[&first]).unwrap(), "{:?}", summary.failures);
        assert!(summary.failures.iter().all(|failure| failure.backend.as_ref() == Some(&second)));
        scene.servers[1].restart().unwrap();
        scene.must(&["undrain", "web", &first]).unwrap();
        eventually("the upper tier has all", SOON, || lower_tier(&scene) == 0.0).unwrap();
        assert!(scene.answers(20).unwrap().keys().all(|backend| [&first, &second].contains(&backend)));
    }
}

fn services(scene: &Scene) -> Vec<ServiceView> {
    scene.agent.cli_json(&["services"]).unwrap()
}
