//! Probes that take the way of the service's own packets: what they see that others do not, and what they leave behind.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::thread::sleep;
use std::time::Duration;

use mesh_tests::Host;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::BackendView;

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";
const SOON: Duration = Duration::from_secs(20);

/// A backend's probe to its own address.
const PLAIN: &str =
    "health = { kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\" }";
/// The same to the VIP, with packets as long as the way allows.
const PADDED: &str = "health = { kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\", \
                      to = \"vip\", padded = true }";
const ECHO: &str =
    "health = { kind = \"icmp\", interval = \"200ms\", timeout = \"200ms\", to = \"vip\", padded = true }";

/// A whole backend, and three that are broken each in its own way.
const BACKENDS: usize = 4;

fn scene(vip: &str, way: Way, service: &str) -> Scene {
    let plot = Plot::new(vip, way).unwrap();
    Plot { weights: vec![100; BACKENDS], service: service.into(), ..plot }.set().unwrap()
}

/// What probes say of each backend, and why.
fn verdicts(scene: &Scene) -> Vec<(String, String)> {
    let views: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
    let verdict = |view: BackendView| {
        let health = view.health.unwrap();
        (health.state, health.last_error.unwrap_or_default())
    };
    views.into_iter().map(verdict).collect()
}

fn states(scene: &Scene) -> Vec<String> {
    verdicts(scene).into_iter().map(|(state, _)| state).collect()
}

fn await_states(scene: &Scene, expected: [&str; BACKENDS]) {
    let are = eventually(&format!("verdicts are {expected:?}"), SOON, || states(scene) == expected);
    assert!(are.is_ok(), "{:?}", verdicts(scene));
}

/// Breaks all backends but the first: one lacks the VIP, one does not unwrap, one cannot get long packets.
fn break_all_but_one(scene: &mut Scene, vip: &str) {
    let length = if vip == V4 { 32 } else { 128 };
    let [lacking, deaf, narrow] = [2, 3, 4].map(|number| scene.topology.backend(number).unwrap());
    lacking.ip(&format!("addr del {vip}/{length} dev lo\n")).unwrap();
    narrow.narrow(1400).unwrap();
    if scene.decaps.is_empty() {
        deaf.ip(&format!("addr del {vip}/{length} dev lo\n")).unwrap();
    } else {
        drop(scene.decaps.remove(2));
    }
}

fn assert_told(vip: &str, way: Way) {
    let mut scene = scene(vip, way, PADDED);
    await_states(&scene, ["up"; BACKENDS]);
    break_all_but_one(&mut scene, vip);
    await_states(&scene, ["up", "down", "down", "down"]);
    let reasons = verdicts(&scene).into_iter().map(|(_, reason)| reason).collect::<Vec<_>>();
    for (number, reason) in reasons.iter().enumerate().skip(1) {
        let backend = scene.backend(number).unwrap();
        assert!(
            reason.contains(vip) && reason.contains(&format!(" to {backend} in packets of ")),
            "{reason}"
        );
    }
    let [_, lacking, _, narrow] = reasons.as_slice() else { unreachable!("{reasons:?}") };
    // A host without a route for the VIP may say so.
    assert!(
        lacking.contains("did not accept a connection") || lacking.contains("cannot be reached"),
        "{lacking}"
    );
    assert!(narrow.contains("was not answered"), "only long packets are lost: {narrow}");
    scene.change_service(ECHO).unwrap();
    sleep(Duration::from_secs(1));
    assert_eq!(states(&scene), ["up", "down", "down", "down"]);
    // Nothing of this is seen by who asks the backends themselves.
    scene.change_service(PLAIN).unwrap();
    await_states(&scene, ["up"; BACKENDS]);
}

#[test]
fn what_breaks_the_way_of_ipip_is_seen() {
    assert_told(V4, Way::IpipV4);
    assert_told(V6, Way::IpipV6);
}

#[test]
fn what_breaks_direct_return_is_seen() {
    assert_told(V4, Way::L2);
    assert_told(V6, Way::L2);
}

#[test]
fn what_breaks_the_way_of_gue_and_geneve_is_seen() {
    assert_told(V4, Way::GueV6);
    assert_told(V6, Way::GeneveV4);
}

/// Standard output of a command in the balancer.
fn said(host: &Host, program: &str, arguments: &[&str]) -> String {
    let output = host.command(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What there is of ours in the balancer: devices, routes in the tables of both families, rules of both.
fn traces(host: &Host) -> [usize; 3] {
    let count = |text: String, what: &str| text.lines().filter(|line| line.contains(what)).count();
    let both = |arguments: &[&str], what: &str| -> usize {
        let of = |family| count(said(host, "ip", &[&[family], arguments].concat()), what);
        of("-4") + of("-6")
    };
    [
        count(said(host, "ip", &["-o", "link"]), "meshlb-probe"),
        both(&["route", "show", "table", "all"], "default dev meshlb-probe"),
        both(&["rule"], "fwmark 0x6d"),
    ]
}

#[test]
fn nothing_but_probes_takes_their_way_and_what_they_need_goes() {
    let mut scene = scene(V4, Way::IpipV4, PADDED);
    let host = scene.topology.balancer().clone();
    host.ip("route add 192.0.2.0/24 dev eth0\n").unwrap();
    await_states(&scene, ["up"; BACKENDS]);
    assert_eq!(traces(&host), [1, 2, 2]);
    assert!(said(&host, "ip", &["route", "get", V4]).contains("dev eth0"));
    assert!(said(&host, "ip", &["route", "get", V4, "mark", "109"]).contains("dev meshlb-probe"));
    // Others flush rules, too: the agent's own come back, and meanwhile nothing is held against a backend.
    host.ip("rule del fwmark 109\n").unwrap();
    sleep(Duration::from_secs(2));
    assert_eq!(states(&scene), ["up"; BACKENDS]);
    eventually("the rule is back", SOON, || traces(&host) == [1, 2, 2]).unwrap();
    // And devices.
    host.ip("link del meshlb-probe0\n").unwrap();
    eventually("there is a device again", SOON, || traces(&host) == [1, 2, 2]).unwrap();
    assert_eq!(states(&scene), ["up"; BACKENDS]);
    // A killed agent leaves rules that lead nowhere, and those only.
    scene.agent.kill9().unwrap();
    eventually("the device is gone", SOON, || traces(&host) == [0, 0, 2]).unwrap();
    assert!(said(&host, "ip", &["route", "get", V4, "mark", "109"]).contains("dev eth0"));
    scene.agent.restart().unwrap();
    assert_eq!(traces(&host), [1, 2, 2]);
    scene.agent.terminate().unwrap();
    assert_eq!(traces(&host), [0, 0, 0]);
    scene.agent.restart().unwrap();
    scene.agent.kill9().unwrap();
    let config = scene.agent.config_path();
    scene.must(&["detach", "--config", config.to_str().unwrap()]).unwrap();
    assert_eq!(traces(&host), [0, 0, 0]);
}

#[test]
fn a_vip_of_the_balancers_own_is_told_and_held_against_nobody() {
    let scene = scene(V4, Way::IpipV4, PADDED);
    await_states(&scene, ["up"; BACKENDS]);
    scene.topology.balancer().ip(&format!("addr add {V4}/32 dev lo\n")).unwrap();
    eventually("it is told", SOON, || scene.agent.log().contains("it is an address of this host")).unwrap();
    sleep(Duration::from_secs(1));
    assert_eq!(states(&scene), ["up"; BACKENDS]);
}
