//! What a collector gets: real requests of a running agent, decoded by OpenTelemetry's own types.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use mesh_tests::HostRuntime;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::{eventually, until};
use mesh_userspace::api::types::Status;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

const COLLECTOR: &str = "127.0.0.1:4318";
const METRICS: &str = "127.0.0.1:9440";
const TOKEN: &str = "t0ken-of-the-collector";
const SOON: Duration = Duration::from_secs(30);

/// What came, and who may send.
#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    logs: Vec<LogRecord>,
    resource: Vec<KeyValue>,
    refused: usize,
}

type Shared = Arc<Mutex<Received>>;

/// A collector in the balancer's namespace.
struct Collector {
    received: Shared,
    running: Option<HostRuntime>,
}

impl Collector {
    fn start(scene: &Scene) -> Self {
        let mut collector = Self { received: Shared::default(), running: None };
        collector.listen(scene);
        collector
    }

    fn listen(&mut self, scene: &Scene) {
        let runtime = scene.topology.balancer().runtime(1).unwrap();
        let listener = runtime.block_on(TcpListener::bind(COLLECTOR)).unwrap().unwrap();
        let routes = Router::new().route("/v1/traces", post(take_traces)).route("/v1/logs", post(take_logs));
        let app = routes.with_state(Arc::clone(&self.received));
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.running = Some(runtime);
    }

    fn stop(&mut self) {
        self.running.take().unwrap().stop(Duration::from_secs(2));
    }

    fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    fn roots(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name && span.parent_span_id.is_empty()).collect()
    }

    /// Waits for the first trace of this name: its root, and its other spans in their order.
    fn trace(&self, name: &str) -> (Span, Vec<Span>) {
        eventually(&format!("a trace is called {name}"), SOON, || !self.roots(name).is_empty()).unwrap();
        let root = self.roots(name).remove(0);
        let mut parts = self.spans();
        parts.retain(|span| span.trace_id == root.trace_id && span.span_id != root.span_id);
        parts.sort_by_key(|span| span.start_time_unix_nano);
        (root, parts)
    }

    /// Waits for a log record that says this.
    fn log(&self, words: &str) -> LogRecord {
        until(&format!("a record says {words:?}"), SOON, || {
            let logs = &self.received.lock().unwrap().logs;
            let found = logs.iter().find(|log| body(log).contains(words)).cloned();
            found.ok_or_else(|| anyhow::anyhow!("{:?}", logs.iter().map(body).collect::<Vec<_>>()))
        })
        .unwrap()
    }
}

fn is_allowed(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|it| it == value);
    is("content-type", "application/x-protobuf") && is("authorization", &format!("Bearer {TOKEN}"))
}

async fn take_traces(State(to): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut to = to.lock().unwrap();
    if !is_allowed(&headers) {
        to.refused += 1;
        return StatusCode::UNAUTHORIZED;
    }
    for of_resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        to.resource = of_resource.resource.unwrap().attributes;
        to.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    StatusCode::OK
}

async fn take_logs(State(to): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut to = to.lock().unwrap();
    if !is_allowed(&headers) {
        to.refused += 1;
        return StatusCode::UNAUTHORIZED;
    }
    for of_resource in ExportLogsServiceRequest::decode(body).unwrap().resource_logs {
        to.logs.extend(of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records));
    }
    StatusCode::OK
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn body(log: &LogRecord) -> String {
    shown(log.body.as_ref().and_then(|body| body.value.as_ref()))
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    shown(found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()))
}

/// A scene whose agent tells a collector, and the token that it shows.
fn telling(plot: Plot, directory: &Path) -> Scene {
    let token = directory.join("otlp.token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let file = format!("{}\n[otlp]\nendpoint = \"http://{COLLECTOR}\"\ntoken_file = {token:?}\n", plot.file);
    Plot { file, ..plot }.set().unwrap()
}

fn plot() -> Plot {
    Plot::new("192.0.2.10", Way::L2).unwrap()
}

fn problems(scene: &Scene) -> Vec<String> {
    scene.agent.cli_json::<Status>(&["status"]).unwrap().problems
}

/// The root covers all parts, each of which is a part of it.
fn assert_whole(root: &Span, parts: &[Span]) {
    assert_eq!((root.trace_id.len(), root.span_id.len()), (16, 8));
    for part in parts {
        assert_eq!(part.parent_span_id, root.span_id, "{part:?}");
        assert!(part.start_time_unix_nano <= part.end_time_unix_nano, "{part:?}");
        assert!(root.start_time_unix_nano <= part.start_time_unix_nano, "{root:?} {part:?}");
        assert!(part.end_time_unix_nano <= root.end_time_unix_nano, "{root:?} {part:?}");
    }
}

/// Probes that failed, or went well, and then the maps.
fn assert_turn(root: &Span, parts: &[Span], least: usize, failed: bool) {
    assert_whole(root, parts);
    let (reconcile, probes) = parts.split_last().unwrap();
    assert!(probes.len() >= least, "{parts:?}");
    assert_eq!(root.start_time_unix_nano, probes[0].start_time_unix_nano);
    for probe in probes {
        assert_eq!(probe.name, "probe");
        assert!(probe.end_time_unix_nano <= reconcile.start_time_unix_nano, "{probe:?} {reconcile:?}");
        assert_eq!(probe.status.is_some(), failed, "{probe:?}");
        assert_eq!(attribute(&probe.attributes, "meshlb.probe.kind"), "http");
    }
    assert_eq!((reconcile.name.as_str(), &reconcile.status), ("reconcile", &None));
    assert!(attribute(&reconcile.attributes, "meshlb.ops").parse::<u32>().unwrap() > 0, "{reconcile:?}");
    assert_eq!(reconcile.end_time_unix_nano, root.end_time_unix_nano);
}

#[test]
fn the_death_of_a_backend_is_one_trace_up_to_the_maps() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = telling(plot(), directory.path());
    let collector = Collector::start(&scene);
    let address = scene.backend(1).unwrap().to_string();
    collector.log("is ready with 1 services");
    scene.servers[1].kill();
    let log = collector.log("went down");
    let (root, parts) = collector.trace("backend down");
    assert_turn(&root, &parts, 2, true);
    let of = |attributes: &[KeyValue]| {
        (attribute(attributes, "meshlb.service"), attribute(attributes, "meshlb.backend"))
    };
    let expected = ("web".to_owned(), address);
    assert_eq!((of(&root.attributes), of(&parts[0].attributes)), (expected.clone(), expected.clone()));
    assert_eq!((of(&log.attributes), log.severity_text.as_str()), (expected.clone(), "WARN"));
    assert_eq!((&log.trace_id, &log.span_id), (&root.trace_id, &root.span_id));
    assert_eq!(attribute(&log.attributes, "meshlb.event.kind"), "backend");
    scene.servers[1].restart().unwrap();
    let (up, parts) = collector.trace("backend up");
    assert_turn(&up, &parts, 2, false);
    assert_eq!(of(&up.attributes), expected);
    assert_eq!(collector.log("came up").trace_id, up.trace_id);
    assert_eq!(problems(&scene), Vec::<String>::new());
    // Nothing else has changed, and what has is not told twice: all that waited is there once the agent has ended.
    assert!(scene.agent.terminate().unwrap().success());
    collector.log("ended");
    assert_eq!((collector.roots("backend down").len(), collector.roots("backend up").len()), (1, 1));
    assert_eq!(collector.spans().iter().filter(|span| span.parent_span_id.is_empty()).count(), 2);
    let resource = collector.received.lock().unwrap().resource.clone();
    assert_eq!(attribute(&resource, "service.name"), "meshlb");
    assert!(!attribute(&resource, "host.name").is_empty());
}

#[test]
fn what_a_source_says_is_a_trace_and_the_last_words_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("list.toml");
    fs::write(&list, "").unwrap();
    let sources = format!("[[service.discovery]]\nkind = \"file\"\npath = {list:?}\n");
    let service = format!("{}\n{sources}", plot().service);
    let mut scene = telling(Plot { service, spare: 1, ..plot() }, directory.path());
    let collector = Collector::start(&scene);
    let address = scene.backend(3).unwrap();
    let new = directory.path().join("new.toml");
    fs::write(&new, format!("[[backend]]\naddress = \"{address}\"\n")).unwrap();
    fs::rename(&new, &list).unwrap();
    let (root, parts) = collector.trace("discovery update");
    assert_whole(&root, &parts);
    assert_eq!(parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["reconcile"]);
    assert_eq!(attribute(&root.attributes, "meshlb.source"), format!("file {}", list.display()));
    assert_eq!(attribute(&root.attributes, "meshlb.instances"), "1");
    assert_eq!(collector.log("says 1 instances").trace_id, root.trace_id);
    assert!(scene.agent.terminate().unwrap().success());
    assert!(collector.received.lock().unwrap().logs.iter().any(|log| body(log) == "ended"));
}

/// The agent's metrics, as they are scraped.
fn metric(scene: &Scene, name: &str) -> u64 {
    let mut curl = scene.topology.balancer().command("curl");
    let output =
        curl.args(["-sf", "--max-time", "5", &format!("http://{METRICS}/metrics")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

fn measure(scene: &mut Scene) {
    let config = fs::read_to_string(scene.agent.config_path()).unwrap();
    let listens = config.replace("listen = \"off\"", &format!("listen = \"{METRICS}\""));
    scene.agent.write_config_verbatim(&listens).unwrap();
    scene.agent.restart().unwrap();
}

#[test]
fn without_a_collector_the_agent_goes_on_and_tells_it_what_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = telling(plot(), directory.path());
    measure(&mut scene);
    let mut collector = Collector::start(&scene);
    collector.log("is ready with 1 services");
    collector.stop();
    scene.servers[0].kill();
    let is_told = || problems(&scene).iter().any(|it| it.contains("do not reach the collector"));
    eventually("status tells of the collector", SOON, is_told).unwrap();
    let name = scene.backend(0).unwrap().to_string();
    let answers = scene.answers(30).unwrap();
    assert!(!answers.contains_key(&name) && answers.values().sum::<u32>() == 30, "{answers:?}");
    assert!(collector.roots("backend down").is_empty());
    collector.listen(&scene);
    let (root, parts) = collector.trace("backend down");
    assert_turn(&root, &parts, 2, true);
    eventually("all is well again", SOON, || problems(&scene).is_empty()).unwrap();
    let (sent, lost) =
        (metric(&scene, "meshlb_otlp_sent_total"), metric(&scene, "meshlb_otlp_dropped_total"));
    assert!(sent >= 5 && lost == 0, "{sent} {lost}");
}

#[test]
fn what_a_collector_refuses_is_lost_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut scene = telling(plot(), directory.path());
    fs::write(directory.path().join("otlp.token"), "wr0ng-token").unwrap();
    measure(&mut scene);
    let collector = Collector::start(&scene);
    let is_lost = || metric(&scene, "meshlb_otlp_dropped_total") > 0;
    eventually("records are counted as lost", SOON, is_lost).unwrap();
    let told = problems(&scene).join("\n");
    assert!(told.contains("records are lost") && told.contains("status 401"), "{told}");
    assert!(!told.contains("wr0ng-token") && !scene.agent.log().contains("wr0ng-token"), "{told}");
    assert!(collector.received.lock().unwrap().refused > 0);
    // The token is read each time.
    fs::write(directory.path().join("otlp.token"), TOKEN).unwrap();
    scene.servers[0].kill();
    collector.trace("backend down");
    eventually("all is well again", SOON, || problems(&scene).is_empty()).unwrap();
}
