//! A service of Consul: of a real one, and of a server in its place that says what Consul should not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_tests::scene::PORT;
use mesh_tests::wait::{eventually, until};
use mesh_tests::{Host, LoggedChild, preflight};

use super::fake::{Fake, Said};
use super::papers::{Authority, Papers};
use super::stage::{SOON, Stage, finish};

/// Until a server that was killed leads its cluster of one again.
const LEADS: Duration = Duration::from_secs(60);

/// A server of Consul that keeps what it knows over a restart.
struct Consul {
    host: Host,
    directory: PathBuf,
    door: Door,
    child: LoggedChild,
}

/// Where Consul's HTTP API is, in the balancer, and how it is asked.
#[derive(Clone)]
struct Door {
    url: &'static str,
    /// Consul's own settings.
    settings: String,
    /// What curl needs.
    curl: Vec<String>,
}

/// Who may do everything.
const ROOT: &str = "11111111-1111-1111-1111-111111111111";

impl Door {
    fn plain() -> Self {
        let settings = "ports { http = 8500 }".to_owned();
        Self { url: "http://127.0.0.1:8500", settings, curl: Vec::new() }
    }

    /// Inside TLS, where nobody may do anything without a token.
    fn secured(Papers { certificate, key }: &Papers) -> Self {
        let settings = format!(
            "ports {{ http = -1, https = 8501 }}, cert_file = {certificate:?}, key_file = {key:?}, \
             acl {{ enabled = true, default_policy = \"deny\", tokens {{ master = {ROOT:?}, agent = {ROOT:?} }} }}"
        );
        let curl = vec!["--insecure".to_owned(), "--header".to_owned(), format!("X-Consul-Token: {ROOT}")];
        Self { url: "https://127.0.0.1:8501", settings, curl }
    }

    /// One request, by curl in the host; an answer that is an error is one.
    fn ask(&self, host: &Host, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let mut command: Command = host.command("curl");
        command.args(["-sS", "--fail", "--max-time", "5", "-X", method, "-d", body]).args(&self.curl);
        let output = command.arg(format!("{}{path}", self.url)).output()?;
        anyhow::ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Consul {
    fn start(stage: &Stage) -> Self {
        Self::start_behind(stage, Door::plain())
    }

    fn start_behind(stage: &Stage, door: Door) -> Self {
        let host = stage.scene.topology.balancer().clone();
        let directory = stage.scene.topology.directory();
        let child = launch(&host, &directory, &door);
        let mut consul = Self { host, directory, door, child };
        consul.await_leader();
        consul
    }

    fn await_leader(&mut self) {
        let (host, door) = (self.host.clone(), self.door.clone());
        let leads = |_: &LoggedChild| match door.ask(&host, "GET", "/v1/status/leader", "") {
            Ok(leader) if leader.len() > 2 => Ok(()),
            answer => anyhow::bail!("no leader: {answer:?}"),
        };
        self.child.await_ready(LEADS, leads).unwrap();
    }

    fn put(&self, path: &str, body: &str) {
        self.answer(path, body);
    }

    fn answer(&self, path: &str, body: &str) -> String {
        until("Consul takes it", SOON, || self.door.ask(&self.host, "PUT", path, body)).unwrap()
    }

    /// Registers a host of the stage.
    fn register(&self, stage: &Stage, number: usize, passing: u16, tags: &str) {
        let (address, id) = (stage.address(number), format!("web-{number}"));
        let check = format!("{{\"CheckID\":\"{id}\",\"TTL\":\"24h\",\"Status\":\"passing\"}}");
        let weights = format!("{{\"Passing\":{passing},\"Warning\":1}}");
        let body = format!(
            "{{\"ID\":\"{id}\",\"Name\":\"web\",\"Address\":\"{address}\",\"Port\":{PORT},\"Tags\":[{tags}],\
             \"Weights\":{weights},\"Check\":{check}}}"
        );
        self.put("/v1/agent/service/register", &body);
        // What was only registered as passing is critical to Consul after a restart.
        self.check(number, "pass");
    }

    fn deregister(&self, number: usize) {
        self.put(&format!("/v1/agent/service/deregister/web-{number}"), "");
    }

    /// Says how a host's check went: `pass`, `warn` or `fail`.
    fn check(&self, number: usize, result: &str) {
        self.put(&format!("/v1/agent/check/{result}/web-{number}"), "");
    }

    fn maintain(&self, number: usize, enable: bool) {
        self.put(&format!("/v1/agent/service/maintenance/web-{number}?enable={enable}"), "");
    }

    fn kill(&mut self) {
        self.child.kill9().unwrap();
    }

    fn restart(&mut self) {
        self.child = launch(&self.host, &self.directory, &self.door);
        self.await_leader();
    }
}

fn launch(host: &Host, directory: &Path, door: &Door) -> LoggedChild {
    let mut command = host.command(preflight::consul().unwrap());
    command.args(["agent", "-server", "-bootstrap-expect", "1", "-node", "one", "-disable-host-node-id"]);
    command.args(["-bind", "127.0.0.1", "-client", "127.0.0.1", "-server-port", "8300"]);
    command.args(["-hcl", &door.settings]);
    command.args(["-serf-lan-port", "8301", "-serf-wan-port", "-1", "-grpc-port", "-1", "-dns-port", "-1"]);
    command.args(["-hcl", "performance { raft_multiplier = 1 }", "-data-dir"]).arg(directory.join("consul"));
    LoggedChild::spawn("consul", command, directory.join("consul.log")).unwrap()
}

fn table(keys: &str) -> String {
    format!("[[service.discovery]]\nkind = \"consul\"\nservice = \"web\"\n{keys}")
}

#[test]
fn consul_says_who_is_there_while_connections_live() {
    let mut stage = Stage::set(4);
    let mut consul = Consul::start(&stage);
    consul.register(&stage, 0, 1, "");
    consul.register(&stage, 1, 1, "");
    stage.discover(&table(""));
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    stage.serves(&[0, 1]);
    let (traffic, downloads) = (stage.traffic(), stage.downloads(20));

    // One comes, with a weight; one drains, which its connections do not notice; one leaves.
    consul.register(&stage, 2, 3, "\"blue\"");
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300)]);
    consul.maintain(0, true);
    stage.says(&[(0, "draining", 100), (1, "up", 100), (2, "up", 300)]);
    stage.serves(&[1, 2]);
    consul.maintain(0, false);
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300)]);
    consul.register(&stage, 3, 1, "");
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300), (3, "up", 100)]);
    consul.deregister(3);
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300)]);

    // Checks: a warning has a weight of its own, a failure is one.
    consul.check(2, "warn");
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 100)]);
    consul.register(&stage, 3, 1, "");
    consul.check(3, "fail");
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 100), (3, "down", 100)]);
    stage.serves(&[0, 1, 2]);
    consul.check(2, "pass");
    for _ in 0..5 {
        consul.check(3, "pass");
        consul.check(3, "fail");
    }
    consul.deregister(3);
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300)]);

    // A node in maintenance, and an address that is none.
    let node = |checks: &str| {
        let (address, service) = (stage.address(3), format!("{{\"Service\":\"web\",\"Port\":{PORT}}}"));
        format!("{{\"Node\":\"two\",\"Address\":\"{address}\",\"Service\":{service},\"Checks\":[{checks}]}}")
    };
    let maintenance = "{\"Node\":\"two\",\"CheckID\":\"_node_maintenance\",\"Status\":\"critical\"}";
    consul.put("/v1/catalog/register", &node(maintenance));
    stage.says(&[(0, "up", 100), (1, "up", 100), (2, "up", 300), (3, "draining", 100)]);
    consul.put("/v1/catalog/deregister", "{\"Node\":\"two\"}");
    let name =
        "{\"Node\":\"three\",\"Address\":\"web.example\",\"Service\":{\"ID\":\"named\",\"Service\":\"web\"}}";
    consul.put("/v1/catalog/register", name);
    let problem = "has entries that are left out: 1, such as \"named\": \"web.example\" is not an IP address";
    let is_said = || stage.status().problems.iter().any(|it| it.contains(problem));
    eventually("the name is said to be none", SOON, is_said).unwrap();
    stage.serves(&[0, 1, 2]);

    // It dies, and the agent, too: its last word stands.
    consul.kill();
    let source = stage.source_becomes("stale");
    let error = source.last_error.unwrap();
    assert!(error.contains("127.0.0.1:8500"), "{error}");
    stage.scene.agent.kill9().unwrap();
    stage.scene.agent.restart().unwrap();
    assert_eq!(stage.source_becomes("stale").instances, 3);
    stage.serves(&[0, 1, 2]);
    consul.restart();
    stage.source_becomes("live");
    stage.serves(&[0, 1, 2]);
    consul.deregister(1);
    stage.says(&[(0, "up", 100), (2, "up", 300)]);

    // Only some, by their tag.
    stage.discover(&table(
        "tags = [\"blue\"]\nendpoints = [\"http://127.0.0.1:1\", \"http://localhost:8500\"]\n",
    ));
    stage.says(&[(2, "up", 300)]);
    stage.serves(&[2]);
    finish(downloads);
    traffic.finish();
}

#[test]
fn consul_is_asked_over_tls_with_a_token() {
    let stage = Stage::set(2);
    let directory = stage.scene.topology.directory();
    let [ours, other] = ["ours", "other"].map(|name| Authority::new(&directory, name));
    let server = ours.issue("127.0.0.1");
    let mut consul = Consul::start_behind(&stage, Door::secured(&server));
    consul.register(&stage, 0, 1, "");
    let rules =
        "service \\\"web\\\" { policy = \\\"read\\\" } node_prefix \\\"\\\" { policy = \\\"read\\\" }";
    consul.put("/v1/acl/policy", &format!("{{\"Name\": \"reader\", \"Rules\": \"{rules}\"}}"));
    let answer = consul.answer("/v1/acl/token", "{\"Policies\": [{\"Name\": \"reader\"}]}");
    let reader: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let (reader, token) = (reader["SecretID"].as_str().unwrap(), directory.join("token"));
    std::fs::write(&token, reader).unwrap();
    let asked = |ca: &Authority, keys: &str| {
        let file = &ca.file;
        stage.discover(&table(&format!(
            "endpoints = [\"https://127.0.0.1:8501\"]\nca_file = {file:?}\ntoken_file = {token:?}\nwait = \"1s\"\n{keys}"
        )));
    };
    asked(&ours, "");
    stage.says(&[(0, "up", 100)]);
    stage.serves(&[0]);
    let traffic = stage.traffic();

    // Whoever is not believed is told so, in words; what was said last stays.
    let fails = |of: &str| stage.fails(of);
    asked(&other, "");
    fails(
        "TLS with https://127.0.0.1:8501 failed: the certificate is from nobody that `ca_file` or this host trusts",
    );
    asked(&ours, "server_name = \"consul.example\"\n");
    fails("consul.example");
    asked(&ours, "");
    stage.source_becomes("live");
    std::fs::write(&token, "22222222-2222-2222-2222-222222222222").unwrap();
    fails("returned status 403 Forbidden: ACL not found");
    std::fs::write(&token, reader).unwrap();
    stage.source_becomes("live");
    consul.kill();
    consul.door = Door::secured(&ours.issue_expired("127.0.0.1"));
    consul.restart();
    fails("TLS with https://127.0.0.1:8501 failed: the certificate has expired");

    // It is right again, without a reload.
    consul.kill();
    consul.door = Door::secured(&server);
    consul.restart();
    stage.source_becomes("live");
    consul.check(0, "pass");
    consul.register(&stage, 1, 1, "");
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    stage.serves(&[0, 1]);
    assert!(!stage.scene.agent.log().contains(reader));
    traffic.finish();
}

/// What Consul says of these hosts.
fn entries(stage: &Stage, numbers: &[usize]) -> String {
    let entry = |number: &usize| {
        let address = stage.address(*number);
        format!(
            "{{\"Node\":{{\"Address\":\"{address}\"}},\"Service\":{{\"ID\":\"web-{number}\",\"Port\":{PORT}}}}}"
        )
    };
    format!("[{}]", numbers.iter().map(entry).collect::<Vec<_>>().join(","))
}

/// By this Consul says, from 1.11 on, that a token may not see everything.
const FILTERED: &str = "x-consul-results-filtered-by-acls";

fn indexed(index: &str, body: &str) -> Said {
    Said::new("200 OK", &[("x-consul-index", index)], body)
}

#[test]
fn what_is_wrong_with_an_answer_of_consul_changes_nothing() {
    let stage = Stage::set(3);
    let (both, other) = (entries(&stage, &[0, 1]), entries(&stage, &[2]));
    let right = indexed("70", &both);
    let said = right.clone();
    let fake = Fake::start(stage.scene.topology.balancer(), 8500, move |_| said.clone());
    let token = stage.scene.topology.directory().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    stage.discover(&table(&format!("timeout = \"300ms\"\nwait = \"1s\"\ntoken_file = {token:?}\n")));
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    stage.serves(&[0, 1]);
    let traffic = stage.traffic();

    let slow = indexed("90", &other).after(Duration::from_secs(3));
    let endless = indexed("90", &other).holding(Duration::from_secs(3));
    let wrong = [
        (Said::new("200 OK", &[], &other), "it has no index"),
        (indexed("80", "[{}]"), "missing field `Node`"),
        (
            Said::new("200 OK", &[("x-consul-index", "80"), (FILTERED, "true")], "[]"),
            "/v1/health/service/web was answered in part: the token may not see the rest",
        ),
        (indexed("80", "<html>"), "was answered with something else: expected value"),
        (
            Said::new("500 Internal Server Error", &[], "No cluster leader\n"),
            "status 500 Internal Server Error: No",
        ),
        (Said::new("403 Forbidden", &[], "Permission denied"), "status 403 Forbidden: Permission denied"),
        (Said::new("301 Moved Permanently", &[("location", "/other")], ""), "status 301 Moved Permanently"),
        (Said::verbatim("SSH-2.0-OpenSSH\r\n"), "got no whole answer: "),
        (
            Said::verbatim("HTTP/1.1 200 OK\r\nx-consul-index: 80\r\ncontent-length: 9000\r\n\r\n[]"),
            "whole answer",
        ),
        (slow, "was not answered within"),
        (endless, "was not answered within 300ms"),
    ];
    for (answer, expected) in wrong {
        fake.says(move |_| answer.clone());
        let is_said = || stage.source().last_error.is_some_and(|error| error.contains(expected));
        eventually(&format!("it is said: {expected}"), SOON, is_said).unwrap_or_else(|error| {
            panic!("{error:#}: {:?}", stage.source());
        });
        stage.serves(&[0, 1]);
        let right = right.clone();
        fake.says(move |_| right.clone());
        stage.source_becomes("live");
    }
    assert!(!stage.scene.agent.log().contains("s3cret"));
    assert!(stage.status().problems.iter().all(|problem| !problem.contains("s3cret")));

    // An index that falls, or is 0, is no reason to wait for what was before.
    let (high, low) = (right, indexed("3", &other));
    fake.says(move |request| if request.contains("index=70") { low.clone() } else { high.clone() });
    stage.source_becomes("live");
    let before = fake.requests().len();
    let is_asked = |part: &'static str| move |request: &String| request.contains(part);
    let requests = || fake.requests().split_off(before);
    eventually("an index is not taken for another", SOON, || {
        let requests = requests();
        let falls = requests.iter().position(is_asked("index=70"));
        falls.is_some_and(|at| requests.get(at + 1).is_some_and(|next| !next.contains("index=")))
    })
    .unwrap();
    let zero = indexed("0", &both);
    fake.says(move |_| zero.clone());
    eventually("0 is asked for as 1", SOON, || requests().iter().any(is_asked("index=1&"))).unwrap();
    assert!(
        requests()
            .iter()
            .all(|request| !request.contains("index=0") && request.contains("x-consul-token: s3cret"))
    );
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    // The token is read again each time.
    std::fs::write(&token, "another").unwrap();
    eventually("the new token is sent", SOON, || requests().iter().any(is_asked("x-consul-token: another")))
        .unwrap();
    std::fs::remove_file(&token).unwrap();
    stage.source_becomes("stale");
    traffic.finish();
}
