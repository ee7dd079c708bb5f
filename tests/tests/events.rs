//! What happened is told, with its reason, to whoever asks later, and to whoever watches.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::process::Command;
use std::time::Duration;

use mesh_tests::LoggedChild;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::Status;
use mesh_userspace::events::{Event, Kind};

const SOON: Duration = Duration::from_secs(20);

fn scene() -> Scene {
    let health = "health = { kind = \"icmp\", interval = \"200ms\", timeout = \"200ms\" }";
    Plot { service: health.into(), ..Plot::new("192.0.2.10", Way::L2).unwrap() }.set().unwrap()
}

fn events(scene: &Scene, arguments: &[&str]) -> Vec<Event> {
    scene.agent.cli_json(&[&["events"], arguments].concat()).unwrap()
}

/// Waits until an event is there whose message begins so.
fn await_event(scene: &Scene, kind: Kind, message: &str) -> Event {
    let find = || {
        let is_it = |event: &Event| event.what.kind == kind && event.what.message.starts_with(message);
        events(scene, &[]).into_iter().rfind(is_it)
    };
    eventually(&format!("{message:?} is told"), SOON, || find().is_some()).unwrap();
    find().unwrap()
}

/// `meshlb events --follow` in the balancer.
fn watch(scene: &Scene) -> LoggedChild {
    let mut command: Command = scene.topology.balancer().command(scene.agent.binary());
    command.args(["events", "--follow", "--limit", "1", "-o", "json", "--socket"]).arg(scene.agent.socket());
    LoggedChild::spawn("meshlb events", command, scene.topology.directory().join("events.log")).unwrap()
}

#[test]
fn what_becomes_of_backends_is_told_with_its_reason_and_survives_the_agent() {
    let mut scene = scene();
    let backend = scene.backend(0).unwrap();
    let watcher = watch(&scene);
    eventually("the watcher has begun", SOON, || watcher.log().contains("\"sequence\"")).unwrap();
    scene.must(&["drain", "web", &backend.to_string()]).unwrap();
    eventually("the watcher sees the drain", SOON, || watcher.log().contains("was drained by the operator"))
        .unwrap();
    let drained = await_event(&scene, Kind::Backend, "takes no new flows: it drains");
    assert_eq!((drained.what.service.as_deref(), drained.what.backend), (Some("web"), Some(backend)));
    scene.must(&["undrain", "web", &backend.to_string()]).unwrap();

    scene.topology.backend(1).unwrap().link_down().unwrap();
    let down = await_event(&scene, Kind::Backend, "went down: ");
    assert_eq!(down.what.backend, Some(backend));
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    let [listed] = status.backends_down.as_slice() else { panic!("{status:?}") };
    assert_eq!((listed.service.as_str(), &listed.address), ("web", &backend.to_string()));
    assert!(listed.reason.is_some() && status.slots_changing > 0, "{status:?}");
    scene.topology.backend(1).unwrap().link_up().unwrap();
    await_event(&scene, Kind::Backend, "came up");

    scene.agent.kill9().unwrap();
    scene.agent.restart().unwrap();
    let all = events(&scene, &[]);
    assert!(all.iter().zip(1..).all(|(event, number)| event.sequence == number), "{all:#?}");
    assert_eq!(all.iter().filter(|event| event.what.kind == Kind::Agent).count(), 2, "{all:#?}");
    assert!(all.contains(&down), "{all:#?}");
    let last = all.last().unwrap();
    eventually("the watcher goes on", SOON, || {
        watcher.log().contains(&format!("\"sequence\":{},", last.sequence))
    })
    .unwrap();
    let seen = watcher.log();
    let mut seen: Vec<Event> = seen.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    seen.retain(|event| all.contains(event));
    assert!(
        seen.windows(2).all(|two| matches!(two, [one, next] if one.sequence + 1 == next.sequence)),
        "{seen:#?}"
    );
}

#[test]
fn reloads_are_told_and_some_events_can_be_asked_for() {
    let scene = scene();
    let right = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    scene.agent.write_config_verbatim("nonsense").unwrap();
    assert!(!scene.agent.cli(&["reload"]).unwrap().status.success());
    await_event(&scene, Kind::Reload, "the configuration was refused: ");
    scene.agent.write_config_verbatim(&right.replace("name = \"web\"", "name = \"shop\"")).unwrap();
    scene.must(&["reload"]).unwrap();
    await_event(&scene, Kind::Reload, "the configuration was reloaded; changed: shop");
    scene.must(&["weight", "shop", &scene.backend(2).unwrap().to_string(), "7"]).unwrap();
    let of_shop = events(&scene, &["--service", "shop", "--since", "1h"]);
    assert!(of_shop.iter().all(|event| event.what.service.as_deref() == Some("shop")), "{of_shop:#?}");
    let told: Vec<&str> = of_shop.iter().map(|event| event.what.message.as_str()).collect();
    assert_eq!(told, ["got weight 7 by the operator", "has weight 7 instead of 100"]);
    let text = scene.agent.cli(&["events", "--limit", "1"]).unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with("backend    shop 10.77.0.103 has weight 7 instead of 100\n"), "{text}");
}
