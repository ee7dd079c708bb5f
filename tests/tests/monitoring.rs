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

/// A scene whose agent listens for who scrapes.
fn scraped_scene() -> Scene {
    let mut scene = Plot::new("192.0.2.10", Way::L2).unwrap().set().unwrap();
    let config = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    let listens = config.replace("listen = \"off\"", &format!("listen = \"{METRICS}\""));
    scene.agent.write_config_verbatim(&listens).unwrap();
    scene.agent.restart().unwrap();
    scene
}

fn scrape(scene: &Scene) -> String {
    let mut curl = scene.topology.balancer().command("curl");
    let output =
        curl.args(["-sf", "--max-time", "5", &format!("http://{METRICS}/metrics")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a sample, labels and all; nothing if it is not there.
fn sample(scene: &Scene, name: &str) -> Option<f64> {
    let text = scrape(scene);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next().map(|value| value.parse().unwrap())
}

/// The hash of the configuration in force.
fn config_hash(scene: &Scene) -> String {
    let text = scrape(scene);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("meshlb_config_info{hash=\""));
    lines.next().unwrap().split('"').next().unwrap().to_owned()
}

/// The kernel counts runs of programs until this is dropped.
struct Counting(String);

impl Counting {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn set(value: &str) -> Self {
        let before = std::fs::read_to_string(Self::SWITCH).unwrap();
        std::fs::write(Self::SWITCH, value).unwrap();
        Self(before)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        std::fs::write(Self::SWITCH, &self.0).unwrap();
    }
}

/// The text in Prometheus' own format, which is what `promtool` reads.
fn in_prometheus_format(text: &str) -> String {
    let mut renamed = std::collections::BTreeMap::new();
    for line in text.lines() {
        let mut words = line.strip_prefix("# TYPE ").into_iter().flat_map(str::split_whitespace);
        match (words.next(), words.next()) {
            (Some(name), Some("counter")) => renamed.insert(name, (format!("{name}_total"), "counter")),
            (Some(name), Some("info")) => renamed.insert(name, (format!("{name}_info"), "gauge")),
            _ => None,
        };
    }
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(what), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return line.to_owned();
        };
        match (renamed.get(name), what) {
            (Some((name, kind)), "TYPE") => format!("# TYPE {name} {kind}"),
            (Some((name, _)), _) => format!("# {what} {name} {rest}"),
            (None, _) => line.to_owned(),
        }
    };
    text.lines().filter(|line| *line != "# EOF").map(|it| line(it) + "\n").collect()
}

#[test]
fn promtool_finds_no_fault_with_names_and_help() {
    let scene = scraped_scene();
    let text = in_prometheus_format(&scrape(&scene));
    let path = scene.topology.directory().join("metrics.txt");
    std::fs::write(&path, &text).unwrap();
    let mut promtool = Command::new("promtool");
    let promtool = promtool.args(["check", "metrics"]).stdin(std::fs::File::open(&path).unwrap());
    let output = promtool.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn probes_reloads_and_runs_of_the_program_are_measured() {
    let scene = scraped_scene();
    let probes =
        |result| format!("meshlb_probe_duration_seconds_count{{service=\"web\",result=\"{result}\"}}");
    eventually("probes are measured", SOON, || sample(&scene, &probes("ok")) > Some(3.0)).unwrap();
    assert_eq!(sample(&scene, &probes("failed")), Some(0.0));
    let healthy =
        format!("meshlb_backend_healthy{{service=\"web\",backend=\"{}\"}}", scene.backend(0).unwrap());
    assert_eq!(sample(&scene, &healthy), Some(1.0));
    scene.topology.backend(1).unwrap().link_down().unwrap();
    eventually("failures are measured", SOON, || sample(&scene, &healthy) == Some(0.0)).unwrap();
    assert!(sample(&scene, &probes("failed")) >= Some(1.0));
    assert!(sample(&scene, "meshlb_reconcile_duration_seconds_count{result=\"ok\"}") >= Some(1.0));

    let (before, loaded) = (config_hash(&scene), "meshlb_config_last_reload_timestamp_seconds");
    let started = sample(&scene, loaded).unwrap();
    scene.must(&["reload"]).unwrap();
    assert_eq!(config_hash(&scene), before, "nothing has changed");
    let config = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    scene.agent.write_config_verbatim(&config.replace("200ms", "250ms")).unwrap();
    scene.must(&["reload"]).unwrap();
    assert_ne!(config_hash(&scene), before);
    assert!(sample(&scene, loaded) >= Some(started) && started > 1.7e9);

    let runs = "meshlb_program_runs_total{program=\"meshlb\"}";
    let client = scene.client().unwrap();
    let get_some = || (0..20).for_each(|_| drop(client.get(scene.service())));
    assert!(sample(&scene, "meshlb_program_verified_instructions{program=\"meshlb\"}") > Some(100.0));
    {
        let _counting = Counting::set("1");
        get_some();
        assert!(sample(&scene, runs) >= Some(20.0), "packets are counted");
        assert!(sample(&scene, "meshlb_program_run_seconds_total{program=\"meshlb\"}") > Some(0.0));
    }
    let _off = Counting::set("0");
    assert_eq!(sample(&scene, runs), None, "what is not counted is not told");
}

#[test]
fn prometheus_scrapes_an_agent_and_understands_every_query() {
    let scene = scraped_scene();
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
