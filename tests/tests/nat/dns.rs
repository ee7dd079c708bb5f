//! A name service: real name servers, and a client that asks them in every way that there is.

use std::net::IpAddr;
use std::path::Path;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Host, LoggedChild};
use mesh_userspace::api::types::BackendView;

use crate::{SOON, unprobed};

/// What the servers know: a name with an address of either family, and one with so much text that no usual datagram takes it.
const V4: &str = "198.51.100.7";
const V6: &str = "2001:db8:7::7";
const TEXTS: usize = 12;

/// Bytes of each text; no text is longer (RFC 1035 §3.3).
const TEXT: usize = 250;

fn server(host: &Host, directory: &Path) -> LoggedChild {
    let mut command = host.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--pid-file="]);
    command.args(["--no-resolv", "--no-hosts", "--user=root", "--bind-interfaces", "--edns-packet-max=4096"]);
    command.args([format!("--listen-address={}", host.v4()), format!("--listen-address={}", host.v6())]);
    command.arg(format!("--host-record=www.example,{V4},{V6}"));
    let texts: Vec<String> = (0..TEXTS).map(|nth| format!("{nth:x>TEXT$}")).collect();
    command.arg(format!("--txt-record=long.example,{}", texts.join(",")));
    let log = directory.join(format!("dnsmasq-{}.log", host.name()));
    let mut child = LoggedChild::spawn("dnsmasq", command, log).unwrap();
    child
        .await_ready(SOON, |child| {
            anyhow::ensure!(child.log().contains("started"), "it has not started");
            Ok(())
        })
        .unwrap();
    child
}

/// What `dig` prints.
fn dig(client: &Host, vip: IpAddr, question: &[&str]) -> String {
    let mut command = client.command("dig");
    command.args([&format!("@{vip}"), "+tries=1", "+time=3", "+nocookie"]).args(question);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{question:?}: {said}");
    said
}

/// Two name servers behind services over UDP and TCP.
fn stage(vip: &str, way: Way) -> (Scene, Vec<LoggedChild>) {
    let scene = Plot { mtu: Some(1500), ..unprobed(vip, way, 2, "") }.set().unwrap();
    // Fragments have room for the longer header of IPv6.
    let (v4, v6) = (scene.topology.balancer().v4(), scene.topology.balancer().v6());
    let narrow = format!("route add {v4} dev eth0 mtu 1400\nroute add {v6} dev eth0 mtu 1400\n");
    scene.topology.backends().iter().for_each(|host| host.ip(&narrow).unwrap());
    let backends: String = (0..2)
        .map(|number| format!("[[service.backend]]\naddress = \"{}\"\n", scene.backend(number).unwrap()))
        .collect();
    let service = |protocol| {
        format!(
            "[[service]]\nname = \"dns-{protocol}\"\nvip = \"{vip}\"\nport = 53\nprotocol = \"{protocol}\"\n\
             forward = \"nat\"\n{backends}"
        )
    };
    let services = service("udp") + &service("tcp");
    scene.agent.write_config(&format!("[metrics]\nlisten = \"off\"\n{services}")).unwrap();
    scene.must(&["reload"]).unwrap();
    let directory = scene.topology.directory();
    let servers = scene.topology.backends().iter().map(|host| server(host, &directory)).collect();
    eventually("all are up", SOON, || backends_of(&scene).iter().all(|it| it.state == "up")).unwrap();
    (scene, servers)
}

fn backends_of(scene: &Scene) -> Vec<BackendView> {
    scene.agent.cli_json(&["backends"]).unwrap()
}

#[test]
fn names_are_resolved_over_udp_and_tcp_and_long_answers_come_whole() {
    for (vip, way) in crate::ALL {
        let (scene, _servers) = stage(vip, way);
        let (client, vip) = (scene.topology.client(), vip.parse().unwrap());
        for transport in ["+notcp", "+tcp"] {
            for _ in 0..4 {
                assert_eq!(dig(client, vip, &[transport, "+short", "www.example", "A"]).trim(), V4);
                assert_eq!(dig(client, vip, &[transport, "+short", "www.example", "AAAA"]).trim(), V6);
            }
        }
        let texts = |answer: &str| answer.matches(&"x".repeat(TEXT - 2)).count();
        // One that is cut is asked for again over TCP, by the client itself.
        let cut = dig(client, vip, &["+noedns", "long.example", "TXT"]);
        assert!(cut.contains("Truncated, retrying in TCP mode") && texts(&cut) == TEXTS, "{cut}");
        // Several fragments of a datagram.
        let whole = dig(client, vip, &["+bufsize=4096", "+ignore", "+notcp", "long.example", "TXT"]);
        assert!(whole.contains("(UDP)") && texts(&whole) == TEXTS, "{whole}");
        // Nobody of that name, by an answer.
        assert!(dig(client, vip, &["+notcp", "nobody.example"]).contains("status: "));
        let answered = backends_of(&scene);
        assert!(answered.iter().all(|it| it.replies > 0 && it.refused == 0), "{answered:?}");
    }
}
