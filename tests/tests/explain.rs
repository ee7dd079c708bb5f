//! `meshlb explain` beside a running agent: what it says is what clients then see.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::net::SocketAddr;
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::{BackendView, Explanation};

const SOON: Duration = Duration::from_secs(20);

fn explain(scene: &Scene, arguments: &[&str]) -> Explanation {
    let all = [&["explain"], arguments].concat();
    let mut answers: Vec<Explanation> = scene.agent.cli_json(&all).unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn of_flow(scene: &Scene, client: SocketAddr, more: &[&str]) -> Explanation {
    let (from, to) = (client.to_string(), scene.service().to_string());
    explain(scene, &[&["--from", &from, "--to", &to], more].concat())
}

fn backend(explanation: &Explanation) -> String {
    explanation.backend.as_ref().unwrap().address.clone()
}

/// Standard output of a command that must succeed.
fn said(scene: &Scene, arguments: &[&str]) -> String {
    let output = scene.agent.cli(arguments).unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that must fail.
fn refused(scene: &Scene, arguments: &[&str]) -> String {
    let output = scene.agent.cli(arguments).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn agrees_with_clients(vip: &str, way: Way) {
    let scene = Plot::new(vip, way).unwrap().set().unwrap();
    let client = scene.client().unwrap();
    for _ in 0..20 {
        let reply = client.get(scene.service()).unwrap();
        let explained = of_flow(&scene, reply.client.unwrap(), &[]);
        assert_eq!(Some(backend(&explained)), reply.backend, "{explained:#?}");
        assert_eq!((explained.outcome.as_str(), explained.certain), ("transmitted", true));
        assert_eq!(explained.service.unwrap().name, "web");
        assert_eq!(explained.slot.unwrap().phase, "steady");
        assert!(explained.record.is_none() && explained.prospect.is_none());
    }
}

#[test]
fn what_is_explained_is_who_answers_by_direct_return() {
    agrees_with_clients("192.0.2.10", Way::L2);
}

#[test]
fn what_is_explained_is_who_answers_through_geneve_and_ipv6() {
    agrees_with_clients("2001:db8::10", Way::GeneveV6);
}

#[test]
fn what_would_be_is_what_then_is() {
    let mut scene = Plot::new("192.0.2.10", Way::IpipV4).unwrap().set().unwrap();
    let client: SocketAddr = "198.51.100.7:40000".parse().unwrap();
    let now = backend(&of_flow(&scene, client, &[]));
    let others: Vec<String> =
        (0..3).map(|number| scene.backend(number).unwrap().to_string()).filter(|it| *it != now).collect();
    let explained = of_flow(&scene, client, &["--if-down", &now]);
    assert_eq!(backend(&explained), now, "what is explained is what is");
    let prospect = explained.prospect.unwrap();
    assert_eq!((&prospect.this_flow.now, &prospect.new_flow.now), (&vec![now.clone()], &vec![now.clone()]));
    let then = prospect.this_flow.then[0].clone();
    assert!(others.contains(&then) && prospect.new_flow.then == prospect.this_flow.then, "{prospect:?}");
    assert_eq!(prospect.assumed, [format!("{now} is down")]);
    assert!((300..400).contains(&prospect.slots_moved), "{prospect:?}");
    // All weight to one: new flows go there, and this one stays, for it is not new.
    let weights = [format!("{now}=0"), format!("{}=0", others[0])];
    let weighed = ["--if-weight", &weights[0], "--if-weight", &weights[1], "--flags", "ack"];
    let prospect = of_flow(&scene, client, &weighed).prospect.unwrap();
    let (stays, goes) = (prospect.this_flow.then, prospect.new_flow.then);
    assert_eq!((stays, goes), (vec![now.clone()], vec![others[1].clone()]));
    // Nothing of that has happened: it does now.
    assert_eq!(backend(&of_flow(&scene, client, &[])), now);
    let number = (0..3).find(|number| scene.backend(*number).unwrap().to_string() == now).unwrap();
    drop(scene.servers.remove(number));
    eventually("the flow has moved", SOON, || backend(&of_flow(&scene, client, &[])) == then).unwrap();
}

#[test]
fn people_read_every_step_and_counters_do_not_move() {
    let scene = Plot::new("192.0.2.10", Way::GueV4).unwrap().set().unwrap();
    let drained = scene.backend(0).unwrap().to_string();
    scene.must(&["drain", "web", &drained]).unwrap();
    let counters = || -> Vec<_> {
        let views: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
        views.iter().map(|view| (view.packets, view.bytes, view.new_flows, view.recorded_flows)).collect()
    };
    let before = counters();
    let text = said(&scene, &["explain", "--from", "198.51.100.7:40000", "--to", "192.0.2.10:8080"]);
    for words in [
        "interface  eth0",
        "IPv4 198.51.100.7 > 192.0.2.10 protocol 6",
        "TCP 40000 > 8080 [SYN]",
        "web (192.0.2.10:8080/tcp), scheduler maglev: it has this very address, port and protocol",
        "a TCP connection begins, hash ",
        "its probes say up",
        "gue by eth0 ",
        "transmitted: Sent to a backend through the interface it came in by.",
        "UDP ",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    let elsewhere = said(&scene, &["explain", "--from", "198.51.100.7:40000", "--to", "192.0.2.10:81"]);
    for words in [
        "none has this address, port and protocol",
        "its port is 8080, the packet is for 81",
        "not_a_service",
    ] {
        assert!(elsewhere.contains(words), "no {words:?} in:\n{elsewhere}");
    }
    assert_eq!(counters(), before);
}

#[test]
fn what_cannot_be_explained_says_why() {
    let scene = Plot::new("192.0.2.10", Way::L2).unwrap().set().unwrap();
    let flow = ["explain", "--from", "198.51.100.7:40000", "--to", "192.0.2.10:8080"];
    let with = |more: &[&str]| refused(&scene, &[&flow, more].concat());
    assert!(with(&["--interface", "eth7"]).contains("there is no interface \"eth7\" on this host"));
    assert!(with(&["--if-down", "10.9.9.9"]).contains("has no backend 10.9.9.9"));
    let short = refused(&scene, &["explain", "--packet", "00ff"]);
    assert!(short.contains("a packet has at least 14 bytes"), "{short}");
    let families = refused(&scene, &["explain", "--from", "198.51.100.7:1", "--to", "[2001:db8::10]:80"]);
    assert!(families.contains("are of different families"), "{families}");
    let arp = format!("ffffffffffff0200000000010806{}", "00".repeat(28));
    let explained = explain(&scene, &["--packet", &arp]);
    assert_eq!((explained.outcome.as_str(), explained.verdict.as_str()), ("not_ip", "pass"));
    let nobody = refused(&scene, &["explain", "--packet", &arp, "--if-down", "10.0.0.1"]);
    assert!(nobody.contains("the packet is for no service"), "{nobody}");
}
