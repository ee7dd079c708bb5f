//! Instances in etcd: in a real one, and in a server in its place that refuses tokens and forgets history.

use std::time::Duration;

use mesh_tests::wait::eventually;

use super::fake::{Fake, Said};
use super::member::{Door, Etcd, PORT, Tls};
use super::papers::Authority;
use super::stage::{SOON, Stage, finish};

/// A port where sources do not find it.
const HIDDEN: u16 = 2479;

fn table(keys: &str) -> String {
    format!("[[service.discovery]]\nkind = \"etcd\"\nprefix = \"/web/\"\n{keys}")
}

#[test]
fn etcd_says_who_is_there_while_connections_live() {
    let mut stage = Stage::set(4);
    let mut etcd = Etcd::start(&stage);
    etcd.put(&stage, 0, "");
    etcd.put(&stage, 1, "");
    // What is beside the prefix is none of the service's.
    etcd.control(&["put", "/web0", "neither"]);
    stage.discover(&table(""));
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    stage.serves(&[0, 1]);
    let (traffic, downloads) = (stage.traffic(), stage.downloads(20));

    // One comes; one drains, which its connections do not notice; one fails; one leaves.
    etcd.put(&stage, 2, ", \"weight\": 300, \"port\": 8080");
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300)]);
    etcd.put(&stage, 0, ", \"state\": \"draining\"");
    etcd.put(&stage, 3, ", \"state\": \"failing\"");
    stage.says(&[(0, "draining", 100), (1, "up", 100), (2, "up", 300), (3, "down", 100)]);
    stage.serves(&[1, 2]);
    etcd.put(&stage, 0, "");
    etcd.delete(3);
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300)]);
    for _ in 0..5 {
        etcd.put(&stage, 3, "");
        etcd.delete(3);
    }
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300)]);

    // What is no instance is left out and said; nobody else suffers.
    etcd.control(&["put", "/web/9", "{\"address\": \"web.example\"}"]);
    let problem = "has entries that are left out: 1, such as \"/web/9\": invalid IP address syntax";
    let is_said = || stage.status().problems.iter().any(|it| it.contains(problem));
    eventually("the value is said to be none", SOON, is_said).unwrap();
    assert_eq!(stage.source_becomes("live").instances, 3);
    etcd.control(&["del", "/web/9"]);
    eventually("nothing is left out", SOON, || stage.status().problems.is_empty()).unwrap();

    // It dies, and the agent, too. Meanwhile, where nobody sees it, much changes and history is forgotten.
    etcd.kill();
    stage.source_becomes("stale");
    stage.serves(&[0, 1, 2]);
    etcd.restart(HIDDEN);
    etcd.put(&stage, 3, "");
    etcd.delete(0);
    etcd.put(&stage, 2, ", \"weight\": 100");
    let revision = etcd.control(&["get", "/web/2", "-w", "fields"]);
    let revision = revision.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).unwrap();
    etcd.control(&["compact", revision]);
    stage.serves(&[0, 1, 2]);
    etcd.kill();
    etcd.restart(PORT);
    stage.says(&[(1, "up", 100), (2, "up", 100), (3, "up", 100)]);
    etcd.kill();
    stage.source_becomes("stale");
    stage.scene.agent.kill9().unwrap();
    stage.scene.agent.restart().unwrap();
    assert_eq!(stage.source_becomes("stale").instances, 3);
    stage.serves(&[1, 2, 3]);
    etcd.restart(PORT);
    stage.source_becomes("live");
    finish(downloads);
    traffic.finish();
}

#[test]
fn etcd_is_asked_as_a_user() {
    let stage = Stage::set(2);
    let mut etcd = Etcd::start(&stage);
    etcd.put(&stage, 0, "");
    etcd.control(&["user", "add", "root:toor"]);
    etcd.control(&["user", "add", "balancer:s3cret"]);
    etcd.control(&["role", "add", "reader"]);
    etcd.control(&["role", "grant-permission", "reader", "--prefix=true", "read", "/web/"]);
    etcd.control(&["user", "grant-role", "balancer", "reader"]);
    etcd.control(&["user", "grant-role", "root", "root"]);
    etcd.control(&["auth", "enable"]);
    stage.discover(&table(""));
    let complains = |of: &str| {
        let is_said = || stage.source().last_error.is_some_and(|error| error.contains(of));
        eventually(of, SOON, is_said).unwrap_or_else(|error| panic!("{error:#}: {:?}", stage.source()));
    };
    complains("user name is empty");
    let password = stage.scene.topology.directory().join("password");
    std::fs::write(&password, "wrong\n").unwrap();
    let keys = format!("user = \"balancer\"\npassword_file = {password:?}\n");
    stage.discover(&table(&keys));
    complains("authentication failed, invalid user ID or password");
    std::fs::write(&password, "s3cret\n").unwrap();
    stage.says(&[(0, "up", 100)]);
    let as_root = |arguments: &[&str]| etcd.control(&[&["--user=root:toor"], arguments].concat());
    // Its rights change, which old tokens do not have.
    as_root(&["user", "add", "other:one"]);
    as_root(&["put", "/web/1", &format!("{{\"address\": \"{}\"}}", stage.address(1))]);
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    // A token is forgotten with the member that gave it.
    etcd.kill();
    stage.source_becomes("stale");
    etcd.restart(PORT);
    stage.source_becomes("live");
    stage.serves(&[0, 1]);
    assert!(!stage.scene.agent.log().contains("s3cret"));
}

#[test]
fn etcd_is_asked_over_tls() {
    let stage = Stage::set(2);
    let directory = stage.scene.topology.directory();
    let [ours, other] = ["ours", "other"].map(|name| Authority::new(&directory, name));
    let (server, client) = (ours.issue("127.0.0.1"), ours.issue("balancer.example"));
    let tls = Tls { server: server.clone(), clients: ours.file.clone(), client: client.clone() };
    let mut etcd = Etcd::start_behind(&stage, Door { port: PORT, tls: Some(tls) });
    etcd.put(&stage, 0, "");
    for user in [["user", "add", "root:toor"], ["user", "add", "balancer:s3cret"], ["role", "add", "reader"]]
    {
        etcd.control(&user);
    }
    etcd.control(&["role", "grant-permission", "reader", "--prefix=true", "read", "/web/"]);
    etcd.control(&["user", "grant-role", "balancer", "reader"]);
    etcd.control(&["user", "grant-role", "root", "root"]);
    etcd.control(&["auth", "enable"]);
    let password = directory.join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let asked = |ca: &Authority, keys: &str| {
        stage.discover(&table(&format!(
            "endpoints = [\"https://127.0.0.1:2379\"]\nuser = \"balancer\"\npassword_file = {password:?}\n\
             ca_file = {:?}\n{keys}",
            ca.file
        )));
    };
    asked(&ours, &client.shown());
    stage.says(&[(0, "up", 100)]);
    stage.serves(&[0]);
    let traffic = stage.traffic();

    // Whoever is not believed is told so, in words; what was said last stays.
    let fails = |of: &str| stage.fails(of);
    asked(&other, &client.shown());
    fails(
        "TLS with https://127.0.0.1:2379 failed: the certificate is from nobody that `ca_file` or this host trusts",
    );
    asked(&ours, &format!("{}server_name = \"etcd.example\"\n", client.shown()));
    fails("etcd.example");
    asked(&ours, "");
    fails("alert");
    asked(&ours, &other.issue("balancer.example").shown());
    fails("alert");
    let expired = ours.issue_expired("127.0.0.1");
    etcd.kill();
    etcd.door.tls.as_mut().unwrap().server = expired;
    etcd.restart(PORT);
    asked(&ours, &client.shown());
    fails("TLS with https://127.0.0.1:2379 failed: the certificate has expired");

    // It is right again, without a reload.
    etcd.kill();
    etcd.door.tls.as_mut().unwrap().server = server;
    etcd.restart(PORT);
    stage.source_becomes("live");
    let entry = format!("{{\"address\": \"{}\"}}", stage.address(1));
    etcd.control(&["--user=root:toor", "put", "/web/1", &entry]);
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    stage.serves(&[0, 1]);
    traffic.finish();
}

/// A range with one host, at a revision.
fn range(revision: u32, address: &str) -> Said {
    let value = base64(&format!("{{\"address\":\"{address}\"}}"));
    let kvs = format!("[{{\"key\":\"{}\",\"value\":\"{value}\"}}]", base64("/web/0"));
    Said::new("200 OK", &[], &format!("{{\"header\":{{\"revision\":\"{revision}\"}},\"kvs\":{kvs}}}"))
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A watch whose only lines these are, for a while.
fn watch(lines: &str) -> Said {
    Said::verbatim(&format!("HTTP/1.1 200 OK\r\n\r\n{lines}\n ")).holding(Duration::from_secs(60))
}

const CREATED: &str = "{\"result\":{\"header\":{\"revision\":\"7\"},\"created\":true}}";

#[test]
fn what_etcd_refuses_or_forgets_is_asked_again() {
    let stage = Stage::set(1);
    let one = stage.address(0).to_string();
    let (mut tokens, mut ranges, address) = (0, 0, one.clone());
    // The first token is refused at once; the first watch is of a history that is forgotten.
    let fake = Fake::start(stage.scene.topology.balancer(), PORT, move |request| {
        let head = request.to_lowercase();
        if head.starts_with("post /v3/auth/authenticate") {
            tokens += 1;
            return Said::new("200 OK", &[], &format!("{{\"token\":\"t.{tokens}\"}}"));
        }
        if head.starts_with("post /v3/kv/range") {
            ranges += 1;
            // The second is asked with a token that was good before.
            return match (ranges, head.contains("authorization: t.1")) {
                (2, true) => {
                    Said::new("401 Unauthorized", &[], "{\"error\":\"etcdserver: invalid auth token\"}")
                }
                _ => range(7, &address),
            };
        }
        if ranges > 1 {
            return watch(CREATED);
        }
        let compacted = "{\"result\":{\"header\":{},\"created\":true}}\n\
                         {\"result\":{\"header\":{},\"canceled\":true,\"compact_revision\":\"9\"}}";
        watch(compacted)
    });
    let password = stage.scene.topology.directory().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let source = table(&format!("user = \"balancer\"\npassword_file = {password:?}\ntimeout = \"500ms\"\n"));
    stage.discover(&source);
    stage.says(&[(0, "up", 100)]);
    let count = |part: &str| fake.requests().iter().filter(|it| it.starts_with(part)).count();
    eventually("a new history is watched", SOON, || count("POST /v3/watch") == 2).unwrap();
    assert_eq!((count("POST /v3/auth"), count("POST /v3/kv/range")), (2, 3), "{:?}", fake.requests());
    let mut watches = fake.requests().into_iter().filter(|it| it.starts_with("POST /v3/watch"));
    assert!(watches.next_back().unwrap().contains("\"start_revision\":\"8\""));
    assert_eq!(stage.source_becomes("live").errors, 0);
    stage.serves(&[0]);
    let traffic = stage.traffic();

    // What cannot be read, or ends, leaves the backend there.
    let wrong = [
        (
            "{\"result\":{\"events\":[{\"kv\":{\"key\":\"*\"}}]}}",
            "was answered with something else: Invalid symbol",
        ),
        ("{\"error\":{\"message\":\"leader changed\"}}", "/v3/watch was ended: leader changed"),
        (
            "{\"result\":{\"canceled\":true,\"cancel_reason\":\"permission denied\"}}",
            "/v3/watch was ended: permission denied",
        ),
        ("]", "was answered with something else: expected"),
    ];
    for (line, expected) in wrong {
        let good = one.clone();
        fake.says(move |request| match request.split(' ').nth(1).unwrap() {
            "/v3/auth/authenticate" => Said::new("200 OK", &[], "{\"token\":\"t.9\"}"),
            "/v3/kv/range" => range(7, &good),
            _ => watch(line),
        });
        fake.cut();
        let is_said = || stage.source().last_error.is_some_and(|error| error.contains(expected));
        eventually(expected, SOON, is_said).unwrap_or_else(|error| panic!("{error:#}: {:?}", stage.source()));
        stage.serves(&[0]);
    }
    assert!(!stage.scene.agent.log().contains("s3cret"));
    traffic.finish();
}
