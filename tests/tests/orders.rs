//! What operators order and backends report: it takes effect, is told, and survives the agent.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Download, Downloads};
use mesh_userspace::api::types::{BackendView, Status};

const V4: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

fn scene(service: &str) -> Scene {
    Plot { service: service.into(), ..Plot::new(V4, Way::L2).unwrap() }.set().unwrap()
}

fn plain() -> Scene {
    Plot::new(V4, Way::L2).unwrap().set().unwrap()
}

fn backends(scene: &Scene) -> Vec<BackendView> {
    scene.agent.cli_json(&["backends"]).unwrap()
}

fn states(scene: &Scene) -> Vec<String> {
    backends(scene).into_iter().map(|backend| backend.state).collect()
}

fn await_states(scene: &Scene, expected: [&str; 3]) {
    eventually(&format!("backends are {expected:?}"), SOON, || states(scene) == expected).unwrap();
}

/// What probes and reports say, even where all backends are used because none is healthy.
fn verdicts(scene: &Scene) -> Vec<String> {
    backends(scene).into_iter().map(|backend| backend.health.unwrap().state).collect()
}

fn await_verdicts(scene: &Scene, expected: [&str; 3]) {
    eventually(&format!("verdicts are {expected:?}"), SOON, || verdicts(scene) == expected).unwrap();
}

/// The backends that answer twenty new connections.
fn answering(scene: &Scene) -> Vec<String> {
    scene.answers(20).unwrap().into_keys().collect()
}

/// Standard output of a command that must succeed.
fn said(scene: &Scene, arguments: &[&str]) -> String {
    let output = scene.agent.cli(arguments).unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn drains_weights_and_maintenance_survive_a_crash_until_they_are_taken_back() {
    let mut scene = plain();
    let [drained, light, host] = [0, 1, 2].map(|number| scene.backend(number).unwrap().to_string());
    scene.must(&["drain", "web", &drained]).unwrap();
    scene.must(&["weight", "web", &light, "7"]).unwrap();
    scene.must(&["maintenance", &host, "--reason", "new disk"]).unwrap();
    for is_after_the_crash in [false, true] {
        if is_after_the_crash {
            scene.agent.kill9().unwrap();
            scene.agent.restart().unwrap();
        }
        assert_eq!(states(&scene), ["draining", "up", "maintenance"]);
        let views = backends(&scene);
        assert_eq!((views[1].weight, views[1].configured_weight), (7, 100));
        assert_eq!(views[2].maintenance.as_deref(), Some("new disk"));
        assert_eq!(answering(&scene), [light.as_str()]);
    }
    scene.must(&["undrain", "web", &drained]).unwrap();
    scene.must(&["weight", "web", &light, "config"]).unwrap();
    scene.must(&["maintenance", &host, "--end"]).unwrap();
    scene.agent.restart().unwrap();
    assert_eq!(states(&scene), ["up"; 3]);
    assert!(backends(&scene).iter().all(|backend| backend.share == 100), "{:?}", backends(&scene));
}

#[test]
fn weight_zero_takes_new_flows_away_and_a_reload_does_not_give_them_back() {
    let scene = plain();
    let [first, second, third] = [0, 1, 2].map(|number| scene.backend(number).unwrap().to_string());
    scene.must(&["weight", "web", &first, "0"]).unwrap();
    scene.reconfigure(&[(0, 50), (1, 100), (2, 100)]).unwrap();
    assert_eq!(answering(&scene), [second, third]);
    let view = &backends(&scene)[0];
    assert_eq!((view.weight, view.configured_weight, view.slots), (0, 50, 0));
    // An order for a backend that leaves the configuration leaves with it.
    scene.reconfigure(&[(1, 100), (2, 100)]).unwrap();
    scene.reconfigure(&[(0, 50), (1, 100), (2, 100)]).unwrap();
    assert_eq!(backends(&scene)[0].weight, 50);
}

#[test]
fn names_may_be_abbreviated_and_unknown_ones_are_guessed() {
    let scene = plain();
    let [first, ..] = [0, 1, 2].map(|number| scene.backend(number).unwrap().to_string());
    let ending = first.rsplit_once('.').map(|(_, end)| format!(".{end}")).unwrap();
    scene.must(&["drain", "w", &ending]).unwrap();
    assert_eq!(states(&scene), ["draining", "up", "up"]);
    scene.must(&["undrain", "web", &first]).unwrap();
    assert_eq!(states(&scene), ["up"; 3]);
    let refused = |arguments: &[&str], because: &str| {
        let output = scene.agent.cli(arguments).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(because), "{arguments:?}: {said}");
    };
    let (network, mean) = (first.rsplit_once('.').unwrap().0, "did you mean ");
    refused(&["drain", "wbe", &first], "did you mean web? See: meshlb services");
    refused(&["backends", "wbe"], "did you mean web? See: meshlb services");
    refused(&["drain", "web", &format!("{network}.199")], mean);
    refused(&["flows", "--backend", &format!("{network}.199")], mean);
    refused(&["drain", "web", ".199"], "no backend of web ends with .199");
    refused(&["maintenance", "f"], "no backend ends with f");
    assert_eq!(states(&scene), ["up"; 3]);
}

#[test]
fn a_service_without_backends_refuses_at_once_where_it_is_told_to() {
    for vip in [V4, "2001:db8::10"] {
        let mut plot = Plot::new(vip, Way::IpipV4).unwrap();
        plot.service.push_str("\non_no_backends = \"reject\"");
        let scene = plot.set().unwrap();
        for number in 0..3 {
            scene.must(&["drain", "web", &scene.backend(number).unwrap().to_string()]).unwrap();
        }
        let connect = || TcpStream::connect_timeout(&scene.service(), SOON).map(drop);
        let refused = scene.topology.client().run(connect).unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let status: Status = scene.agent.cli_json(&["status"]).unwrap();
        assert!(status.outcomes["rejected"] > 0, "{:?}", status.outcomes);
        scene.must(&["undrain", "web", &scene.backend(0).unwrap().to_string()]).unwrap();
        assert_eq!(scene.client().unwrap().get(scene.service()).unwrap().status, 200);
    }
}

#[test]
fn maintenance_for_a_while_ends_by_itself() {
    let scene = plain();
    let host = scene.backend(0).unwrap().to_string();
    scene.must(&["maintenance", &host, "--for", "3s"]).unwrap();
    assert_eq!(states(&scene), ["maintenance", "up", "up"]);
    await_states(&scene, ["up"; 3]);
    let output = scene.agent.cli(&["maintenance", "10.9.9.9"]).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && complaint.contains("no service has a backend 10.9.9.9"),
        "{complaint}"
    );
}

#[test]
fn a_drain_that_is_waited_for_ends_with_the_backends_last_flow() {
    let scene = plain();
    let drained = scene.backend(0).unwrap().to_string();
    let download = Download::lasting(scene.service(), Duration::from_secs(8));
    let downloads = Downloads::start(&scene.client().unwrap(), 30, download);
    downloads.flowing(SOON).unwrap();
    let left = || {
        let progress = downloads.progress();
        progress.iter().filter(|one| one.end.is_none() && one.backend.as_ref() == Some(&drained)).count()
    };
    assert!(left() > 0, "no download is at {drained}");
    let hurried = ["drain", "web", &drained, "--wait", "--quiet", "1s", "--deadline", "2s"];
    let output = scene.agent.cli(&hurried).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && complaint.contains("the deadline has passed"), "{output:?}");
    assert!(left() > 0, "the deadline has ended nothing");
    let text = said(&scene, &["drain", "web", &drained, "--wait", "--quiet", "1s", "--deadline", "1m"]);
    assert_eq!(left(), 0, "{text}");
    assert!(text.contains(" flows left, ") && text.trim_end().ends_with(": safe to stop"), "{text}");
    let summary = downloads.finish(LONG).unwrap();
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}

#[test]
fn a_backend_is_up_while_it_reports_that_it_is_well() {
    let scene = scene("health = { kind = \"heartbeat\", ttl = \"3s\" }");
    let [first, second, _] = [0, 1, 2].map(|number| scene.backend(number).unwrap().to_string());
    assert_eq!(verdicts(&scene), ["down"; 3], "nobody has reported");
    let beat = |backend: &str| scene.must(&["heartbeat", "web", backend]).unwrap();
    beat(&first);
    beat(&second);
    await_verdicts(&scene, ["up", "up", "down"]);
    scene.must(&["heartbeat", "web", &second, "--failing", "no database"]).unwrap();
    beat(&first);
    await_verdicts(&scene, ["up", "down", "down"]);
    let health = backends(&scene)[1].health.clone().unwrap();
    assert!(health.last_error.as_ref().unwrap().contains("no database"), "{health:?}");
    assert_eq!(answering(&scene), [first.as_str()]);
    await_verdicts(&scene, ["down"; 3]);
}

#[test]
fn a_service_that_is_probed_takes_no_reports() {
    let scene = plain();
    let output = scene.agent.cli(&["heartbeat", "web", &scene.backend(0).unwrap().to_string()]).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && complaint.contains("kind = \"heartbeat\""), "{complaint}");
}

#[test]
fn a_backend_that_answers_no_echo_request_is_down() {
    let scene = scene("health = { kind = \"icmp\", interval = \"200ms\", timeout = \"200ms\" }");
    assert_eq!(states(&scene), ["up"; 3]);
    scene.topology.backend(1).unwrap().ip("link set eth0 down").unwrap();
    await_states(&scene, ["down", "up", "up"]);
}

#[test]
fn orders_that_cannot_be_kept_are_told() {
    let file = "[agent]\nstate_directory = \"/proc/none\"\n".to_owned();
    let scene = Plot { file, ..Plot::new(V4, Way::L2).unwrap() }.set().unwrap();
    let text = said(&scene, &["drain", "web", &scene.backend(0).unwrap().to_string()]);
    assert!(text.contains("will be forgotten with the next start: cannot make /proc/none"), "{text}");
    assert_eq!(states(&scene), ["draining", "up", "up"]);
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    assert!(status.problems.iter().any(|problem| problem.contains("will be forgotten")), "{status:?}");
    let text = scene.agent.cli(&["status"]).unwrap();
    assert_eq!((text.status.code(), text.stderr.as_slice()), (Some(3), [].as_slice()));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("problems:\n") && text.contains("events are not kept on disk: "), "{text}");
}

#[test]
fn orders_that_were_lost_are_told() {
    let mut scene = plain();
    scene.must(&["drain", "web", &scene.backend(0).unwrap().to_string()]).unwrap();
    scene.agent.terminate().unwrap();
    let file = scene.agent.config_path().with_file_name("state").join("overrides.json");
    std::fs::write(file, "{").unwrap();
    scene.agent.restart().unwrap();
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    let is_told =
        |problem: &String| problem.contains("from before are lost") && problem.contains("overrides.json");
    assert!(status.problems.iter().any(is_told), "{status:?}");
    assert_eq!(states(&scene), ["up"; 3]);
}
