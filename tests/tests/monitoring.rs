//! What is shipped for Prometheus and Grafana speaks of metrics that there are, and works with the real thing.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{LoggedChild, metrics};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

const METRICS: &str = "127.0.0.1:9440";
const PROMETHEUS: &str = "127.0.0.1:9090";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

fn rules() -> PathBuf {
    deploy().join("prometheus/alerts.yml")
}

/// Every query of the dashboard, with something in the place of its variables.
fn queries() -> Vec<String> {
    let text = std::fs::read_to_string(deploy().join("grafana/meshlb.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let query = |target: &Value| {
        let text = target["expr"].as_str().unwrap();
        text.replace("$instance", ".*").replace("$service", ".*").replace("$__rate_interval", "1m")
    };
    let queries: Vec<String> = targets.map(query).collect();
    assert!(queries.len() > 20 && queries.iter().all(|query| !query.contains('$')), "{queries:?}");
    queries
}

/// The names of metrics in a text.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("meshlb_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_panels_ask_for_metrics_that_there_are() {
    let alerts = std::fs::read_to_string(rules()).unwrap();
    let asked: BTreeSet<String> =
        mentioned(&alerts).union(&mentioned(&queries().join(" "))).cloned().collect();
    let names = metrics::names();
    let is_there = |name: &&String| {
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
        names.contains(*name) || parts.into_iter().any(|family| names.contains(family))
    };
    let missing: Vec<_> = asked.iter().filter(|name| !is_there(name)).collect();
    assert!(asked.len() > 15 && missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    let directory = deploy().join("prometheus");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "promtool {arguments:?}: {output:?}");
    }
}

/// A Prometheus on the balancer that scrapes the agent every second.
fn prometheus(scene: &Scene) -> LoggedChild {
    let directory = scene.topology.directory().join("prometheus");
    std::fs::create_dir_all(&directory).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\nscrape_configs:\n  - job_name: meshlb\n    static_configs: [{{targets: [\"{METRICS}\"]}}]\n",
        rules()
    );
    std::fs::write(directory.join("prometheus.yml"), config).unwrap();
    let mut command = scene.topology.balancer().command("prometheus");
    command
        .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
        .arg(format!("--web.listen-address={PROMETHEUS}"));
    LoggedChild::spawn("prometheus", command, directory.join("log")).unwrap()
}

/// What Prometheus answers; nothing while it does not.
fn ask(scene: &Scene, path: &str, query: &str) -> Value {
    let mut curl = scene.topology.balancer().command("curl");
    curl.args(["-s", "-G", "--max-time", "5", "--data-urlencode", &format!("query={query}")]);
    let output = curl.arg(format!("http://{PROMETHEUS}/api/v1/{path}")).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn prometheus_scrapes_an_agent_and_understands_every_query() {
    let mut scene = Plot::new("192.0.2.10", Way::L2).unwrap().set().unwrap();
    let config = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    let listens = config.replace("listen = \"off\"", &format!("listen = \"{METRICS}\""));
    scene.agent.write_config_verbatim(&listens).unwrap();
    scene.agent.restart().unwrap();
    let prometheus = prometheus(&scene);
    let is_scraped = || ask(&scene, "query", "meshlb_ready")["data"]["result"][0]["value"][1] == "1";
    eventually("the agent is scraped", SOON, is_scraped)
        .unwrap_or_else(|error| panic!("{error}: {}", prometheus.log()));
    for query in queries() {
        let answer = ask(&scene, "query", &query);
        assert_eq!(answer["status"], "success", "{query}: {answer}");
    }
    let scraped = |name: &String| {
        let types = ask(&scene, "query", &format!("count({name})"));
        types["data"]["result"][0]["value"][1].as_str().is_some()
    };
    for name in ["meshlb_packets_total", "meshlb_backend_up", "meshlb_build_info", "meshlb_config_info"] {
        assert!(scraped(&name.to_owned()), "{name}");
    }
    for number in 0..3 {
        scene.must(&["drain", "web", &scene.backend(number).unwrap().to_string()]).unwrap();
    }
    eventually("the alert is on its way", SOON, || {
        let alerts = ask(&scene, "alerts", "");
        let alerts = alerts["data"]["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().any(|alert| alert["labels"]["alertname"] == "MeshLBServiceWithoutBackend")
    })
    .unwrap();
}
