//! A Kubernetes service: an API server on the client's host that speaks as much of the protocol as slices need.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use mesh_tests::HostRuntime;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::stage::{Stage, finish};

const PORT: u16 = 6443;
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
const READY: (bool, bool, bool) = (true, true, false);
const UNREADY: (bool, bool, bool) = (false, false, false);
const ENDING: (bool, bool, bool) = (false, true, true);

/// What is in the cluster.
#[derive(Default)]
struct Cluster {
    version: u64,
    slices: BTreeMap<String, Value>,
    /// What has happened, each at its version.
    events: Vec<(u64, Value)>,
}

impl Cluster {
    fn put(&mut self, name: &str, endpoints: Vec<Value>) {
        self.version += 1;
        let slice = json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": { "name": name, "namespace": "shop", "resourceVersion": self.version.to_string() },
            "ports": [{ "name": "http", "port": mesh_tests::scene::PORT, "protocol": "TCP" }],
            "endpoints": endpoints,
        });
        let kind = if self.slices.contains_key(name) { "MODIFIED" } else { "ADDED" };
        self.events.push((self.version, json!({ "type": kind, "object": slice })));
        self.slices.insert(name.to_owned(), slice);
    }
}

type World = Arc<watch::Sender<Cluster>>;

/// The server, which may die while the cluster lives.
struct ApiServer {
    world: World,
    running: Option<HostRuntime>,
}

impl ApiServer {
    fn start(stage: &Stage) -> Self {
        let mut server = Self { world: Arc::new(watch::channel(Cluster::default()).0), running: None };
        server.restart(stage);
        server
    }

    fn kill(&mut self) {
        self.running.take().unwrap().stop(Duration::from_secs(2));
    }

    fn restart(&mut self, stage: &Stage) {
        let client = stage.scene.topology.client();
        let runtime = client.runtime(1).unwrap();
        let listener = runtime.block_on(TcpListener::bind((client.v4(), PORT))).unwrap().unwrap();
        let app = Router::new().route(SLICES, get(slices)).with_state(Arc::clone(&self.world));
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.running = Some(runtime);
    }

    /// From now on a slice has exactly these hosts, with these conditions: ready, serving, terminating.
    fn has(&self, stage: &Stage, name: &str, endpoints: &[(usize, (bool, bool, bool))]) {
        let endpoint = |(number, (ready, serving, terminating)): &(usize, (bool, bool, bool))| {
            let address: IpAddr = stage.address(*number);
            let conditions = json!({ "ready": ready, "serving": serving, "terminating": terminating });
            json!({ "addresses": [address.to_string()], "conditions": conditions })
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        self.world.send_modify(|cluster| cluster.put(name, endpoints));
    }
}

async fn slices(
    State(world): State<World>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if headers.get("authorization").is_none_or(|token| token != "Bearer secret") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if query.get("labelSelector").is_none_or(|selector| selector != "kubernetes.io/service-name=web") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    match query.get("resourceVersion").filter(|_| query.contains_key("watch")) {
        Some(version) => changes(&world, version.parse().unwrap()),
        None => list(&world.borrow()),
    }
}

fn list(cluster: &Cluster) -> Response {
    Json(json!({
        "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "resourceVersion": cluster.version.to_string() },
        "items": cluster.slices.values().collect::<Vec<_>>(),
    }))
    .into_response()
}

/// Everything after a version, one event a line.
fn changes(world: &World, after: u64) -> Response {
    let lines = stream::unfold((world.subscribe(), after), |(mut cluster, after)| async move {
        let has_news = |cluster: &Cluster| cluster.version > after;
        let (version, line) = {
            let cluster = cluster.wait_for(has_news).await.ok()?;
            let (version, event) = cluster.events.iter().find(|(version, _)| *version > after)?;
            (*version, format!("{event}\n"))
        };
        Some((Ok::<_, Infallible>(line), (cluster, version)))
    });
    Body::from_stream(lines).into_response()
}

fn source(stage: &Stage) -> String {
    let server = stage.scene.topology.client().v4();
    let kubeconfig = stage.scene.topology.directory().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{ name: c, cluster: {{ server: \"http://{server}:{PORT}\" }} }}]\n\
         users: [{{ name: u, user: {{ token: secret }} }}]\n\
         contexts: [{{ name: here, context: {{ cluster: c, user: u }} }}]\n"
    );
    fs::write(&kubeconfig, text).unwrap();
    format!(
        "[[service.discovery]]\nkind = \"kubernetes\"\nnamespace = \"shop\"\nservice = \"web\"\n\
         port_name = \"http\"\nkubeconfig = {kubeconfig:?}\n"
    )
}

#[test]
fn endpoints_of_a_service_come_and_go_while_connections_live() {
    let mut stage = Stage::set(4);
    let mut server = ApiServer::start(&stage);
    server.has(&stage, "web-a", &[(0, READY), (1, READY)]);
    stage.discover(&source(&stage));
    stage.serves(&[0, 1]);
    let (traffic, downloads) = (stage.traffic(), stage.downloads(8));

    // One comes in a slice of its own; one ends, and then is gone; one is not ready.
    server.has(&stage, "web-b", &[(2, READY)]);
    stage.serves(&[0, 1, 2]);
    server.has(&stage, "web-a", &[(0, ENDING), (1, READY)]);
    stage.says(&[(0, "draining", 100), (1, "up", 100), (2, "up", 100)]);
    stage.serves(&[1, 2]);
    server.has(&stage, "web-a", &[(1, READY)]);
    stage.says(&[(1, "up", 100), (2, "up", 100)]);
    finish(downloads);
    server.has(&stage, "web-b", &[(2, UNREADY), (3, READY)]);
    stage.says(&[(1, "up", 100), (2, "down", 100), (3, "up", 100)]);
    stage.serves(&[1, 3]);

    // The server dies, and the agent meanwhile; the cluster goes on.
    server.kill();
    stage.source_becomes("stale");
    stage.serves(&[1, 3]);
    stage.scene.agent.kill9().unwrap();
    stage.scene.agent.restart().unwrap();
    assert_eq!(stage.source_becomes("stale").instances, 3);
    stage.serves(&[1, 3]);
    server.has(&stage, "web-a", &[(0, READY)]);
    server.restart(&stage);
    stage.source_becomes("live");
    stage.serves(&[0, 3]);
    server.has(&stage, "web-b", &[(3, READY), (2, READY)]);
    stage.serves(&[0, 2, 3]);
    traffic.finish();
}
