//! Faults that newcomers make, behind an agent that runs: one command names each, in words that need no knowledge of XDP.
//! docs/operations.md, "What is wrong?", has the same words.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::time::Duration;

use mesh_tests::Host;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;

const VIP: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);

fn scene(way: Way) -> Scene {
    plot(way).set().unwrap()
}

fn plot(way: Way) -> Plot {
    Plot { weights: vec![100; 2], ..Plot::new(VIP, way).unwrap() }
}

/// What a person reads after the command, and its exit status.
fn shown(scene: &Scene, arguments: &[&str]) -> (String, Option<i32>) {
    let output = scene.agent.cli(arguments).unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// What `meshlb preflight --probe` says.
fn asked(scene: &Scene) -> (String, Option<i32>) {
    let config = scene.agent.config_path();
    shown(scene, &["preflight", "--config", config.to_str().unwrap(), "--probe"])
}

/// `meshlb preflight --probe` says all of this, and fails.
fn assert_asked_says(scene: &Scene, words: &[&str]) {
    let (text, code) = asked(scene);
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not in:\n{text}");
    assert_eq!(code, Some(3), "{text}");
}

/// `meshlb status` says all of this within seconds.
fn assert_status_says(scene: &Scene, words: &[&str]) {
    let says = || {
        let (text, _) = shown(scene, &["status"]);
        words.iter().all(|word| text.contains(word))
    };
    let said = eventually("status names the fault", SOON, says);
    assert!(said.is_ok(), "{words:?} are not in:\n{}", shown(scene, &["status"]).0);
}

fn filter(host: &Host, rule: &str) {
    let script = format!(
        "add table inet f; add chain inet f in {{ type filter hook input priority 0; }}; add rule inet f in {rule} drop"
    );
    let output = host.command("nft").arg(script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn who_makes_no_fault_is_told_so() {
    for way in [Way::L2, Way::IpipV4, Way::GueV6] {
        let scene = scene(way);
        let (text, code) = asked(&scene);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("each of 2 backends answers, at its own address and at the VIP, long packets too"),
            "{text}"
        );
    }
}

#[test]
fn a_backend_without_the_vip_is_named() {
    for way in [Way::L2, Way::IpipV4] {
        let scene = scene(way);
        scene.topology.backend(2).unwrap().ip(&format!("addr del {VIP}/32 dev lo\n")).unwrap();
        let backend = scene.backend(1).unwrap().to_string();
        let remedy = format!("on {backend}: ip address add {VIP}/32 dev lo");
        assert_asked_says(
            &scene,
            &[&format!("probe web {backend}"), "the VIP is missing on its lo", &remedy],
        );
    }
}

#[test]
fn a_backend_that_does_not_unwrap_is_named() {
    let mut scene = scene(Way::IpipV4);
    drop(scene.decaps.remove(1));
    assert_asked_says(
        &scene,
        &["or nothing unwraps ipip", "there must run: meshlb decap --interface NAME --vip 192.0.2.10"],
    );
}

#[test]
fn an_mtu_without_room_for_headers_is_named() {
    let scene = Plot { mtu: Some(1500), ..plot(Way::IpipV4) }.set().unwrap();
    let (text, _) = asked(&scene);
    let words =
        ["leaves 1480; clients' packets of 1500 do not fit", "ip link set eth0 mtu 1520", "advmss 1440"];
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn a_link_on_the_way_that_loses_long_packets_is_named() {
    let scene = scene(Way::IpipV4);
    scene.topology.backend(1).unwrap().narrow(1400).unwrap();
    let long = "short packets arrive, but not those that are as long as the way should allow";
    assert_asked_says(&scene, &[long, "raise the MTU on all links to"]);
}

#[test]
fn a_gateway_that_is_not_there_is_named() {
    let scene = scene(Way::IpipV4);
    let backend = scene.backend(0).unwrap();
    scene.topology.balancer().ip(&format!("route add {backend}/32 via 10.77.0.250\n")).unwrap();
    let problem =
        format!("backend {backend} cannot be reached: neighbour 10.77.0.250 on eth0 does not answer");
    assert_status_says(&scene, &[&problem]);
    // The agent asks at the same time, so that the kernel may not have given up when it is looked at.
    assert_asked_says(&scene, &["neighbour 10.77.0.250 on eth0", "is 10.77.0.250 on"]);
}

#[test]
fn a_gateway_that_is_not_the_right_one_is_named() {
    let scene = scene(Way::IpipV4);
    let [backend, other] = [0, 1].map(|number| scene.backend(number).unwrap());
    scene.topology.backend(2).unwrap().sysctl("net/ipv4/ip_forward", "0").unwrap();
    scene.topology.balancer().ip(&format!("route add {backend}/32 via {other}\n")).unwrap();
    assert_status_says(&scene, &["did not accept a connection", "meshlb preflight --config FILE --probe"]);
    assert_asked_says(&scene, &["behind a router: a wrong gateway", &format!("ip route get {backend}")]);
}

#[test]
fn a_wrong_port_of_probes_is_named() {
    let mut scene = scene(Way::IpipV4);
    let backend = scene.backend(0).unwrap();
    let wrong = "health = { kind = \"http\", path = \"/healthz\", port = 9999, interval = \"200ms\", timeout = \"200ms\" }";
    scene.change_service(wrong).unwrap();
    assert_status_says(&scene, &[&format!("{backend}:9999 refused the connection: nothing listens there")]);
    // The VIP answers, which tells a wrong port from a server that does not run.
    assert_asked_says(&scene, &["while it answers at the VIP: a wrong port", "is 9999 the port to probe?"]);
    scene.servers.clear();
    assert_asked_says(
        &scene,
        &["a wrong port, or no server", "start its server, or correct the port: 9999 is probed"],
    );
}

#[test]
fn a_firewall_before_a_backends_server_is_named() {
    let scene = scene(Way::IpipV4);
    filter(scene.topology.backend(1).unwrap(), "tcp dport 8080");
    assert_status_says(&scene, &["did not accept a connection", "meshlb preflight --config FILE --probe"]);
    let words = [
        "answers pings, but port 8080 says nothing, not even no: packets are dropped",
        "look for a firewall on",
    ];
    assert_asked_says(&scene, &words);
}

#[test]
fn a_firewall_that_knows_the_vip_only_is_named() {
    let scene = scene(Way::IpipV4);
    filter(scene.topology.backend(1).unwrap(), &format!("ip daddr {VIP} tcp dport 8080"));
    assert_asked_says(
        &scene,
        &[&format!("it answers pings to {VIP}, but port 8080 says nothing"), "look for a firewall on"],
    );
}

#[test]
fn a_blackhole_on_the_way_back_is_named() {
    let scene = scene(Way::IpipV4);
    let balancer = scene.topology.balancer().v4();
    scene.topology.backend(1).unwrap().ip(&format!("route add blackhole {balancer}/32\n")).unwrap();
    let words = [
        "answers neither pings nor at port 8080: packets are dropped",
        "a blackhole on the way back (ip route)",
    ];
    assert_asked_says(&scene, &words);
}

/// Rules and devices of probes to VIPs in the balancer.
fn traces(scene: &Scene) -> Vec<String> {
    let balancer = scene.topology.balancer();
    let lines = |arguments: &[&str], what: &str| {
        let output = balancer.command("ip").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains(what)).map(str::to_owned).collect::<Vec<_>>()
    };
    [lines(&["-o", "link", "show", "type", "tun"], "meshlb-probe"), lines(&["rule"], "fwmark")].concat()
}

#[test]
fn asking_beside_an_agent_that_asks_vips_disturbs_nothing_and_leaves_nothing() {
    let mut scene = scene(Way::IpipV4);
    scene
        .change_service("health = { kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\", to = \"vip\" }")
        .unwrap();
    eventually("the agent has its device", SOON, || traces(&scene).len() == 2).unwrap();
    let before = traces(&scene);
    let (text, code) = asked(&scene);
    assert_eq!(code, Some(0), "{text}");
    eventually("the device is gone", SOON, || traces(&scene) == before).unwrap();
    let (text, code) = shown(&scene, &["status"]);
    assert_eq!(code, Some(0), "{text}");
}
