//! A Kubernetes service: an API server on the client's host that speaks as much of the protocol as slices need.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use futures_util::stream;
use mesh_tests::HostRuntime;
use mesh_tests::wait::eventually;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::papers::{Authority, Papers};
use super::stage::{SOON, Stage, finish};

const PORT: u16 = 6443;
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
const READY: (bool, bool, bool) = (true, true, false);
const UNREADY: (bool, bool, bool) = (false, false, false);
const ENDING: (bool, bool, bool) = (false, true, true);

/// What is in the cluster.
#[derive(Default)]
struct Cluster {
    /// Who may ask.
    token: String,
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
    /// `None`: in plain.
    tls: Option<TlsAcceptor>,
    running: Option<HostRuntime>,
}

/// Connections, after hands are shaken.
struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Whoever does not trust the certificate goes away.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl ApiServer {
    fn start(stage: &Stage) -> Self {
        Self::start_with(stage, None)
    }

    fn start_with(stage: &Stage, tls: Option<TlsAcceptor>) -> Self {
        let cluster = Cluster { token: "secret".into(), ..Cluster::default() };
        let mut server = Self { world: Arc::new(watch::channel(cluster).0), tls, running: None };
        server.restart(stage);
        server
    }

    /// From now on only this token is good.
    fn believes(&self, token: &str) {
        self.world.send_modify(|cluster| cluster.token = token.to_owned());
    }

    fn kill(&mut self) {
        self.running.take().unwrap().stop(Duration::from_secs(2));
    }

    fn restart(&mut self, stage: &Stage) {
        let client = stage.scene.topology.client();
        let runtime = client.runtime(1).unwrap();
        let listener = runtime.block_on(TcpListener::bind((client.v4(), PORT))).unwrap().unwrap();
        let app = Router::new().route(SLICES, get(slices)).with_state(Arc::clone(&self.world));
        match self.tls.clone() {
            None => drop(runtime.spawn(async move { axum::serve(listener, app).await })),
            Some(tls) => {
                drop(runtime.spawn(async move { axum::serve(Door { listener, tls }, app).await }));
            }
        }
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
    let right = format!("Bearer {}", world.borrow().token);
    if headers.get("authorization").is_none_or(|token| *token != right) {
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

/// TLS of a server with these papers.
fn acceptor(Papers { certificate, key }: &Papers) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// What runs the agent as a pod would be: with the variables of a cluster, and a service account where clients look for it.
fn pod(stage: &Stage, account: &Path) -> Vec<String> {
    let server = stage.scene.topology.client().v4();
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && \
         ln -s {} /run/secrets/kubernetes.io/serviceaccount && exec \"$@\"",
        account.display()
    );
    let words = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned);
    let variables = [format!("KUBERNETES_SERVICE_HOST={server}"), format!("KUBERNETES_SERVICE_PORT={PORT}")];
    ["env".to_owned()].into_iter().chain(variables).chain(words).collect()
}

#[test]
fn a_pod_finds_its_cluster_and_follows_its_account() {
    let mut stage = Stage::set(3);
    let directory = stage.scene.topology.directory();
    let account = directory.join("account");
    fs::create_dir(&account).unwrap();
    let [ours, other] = ["ours", "other"].map(|name| Authority::new(&directory, name));
    let address = stage.scene.topology.client().v4().to_string();
    let mut server = ApiServer::start_with(&stage, Some(acceptor(&ours.issue(&address))));
    server.has(&stage, "web-a", &[(0, READY)]);
    let put = |name: &str, text: &str| {
        // As a kubelet does: whoever reads finds the one or the other.
        fs::write(account.join("new"), text).unwrap();
        fs::rename(account.join("new"), account.join(name)).unwrap();
    };
    let authority = |of: &Authority| put("ca.crt", &fs::read_to_string(&of.file).unwrap());
    let says = |stage: &Stage, of: &str| {
        let is_said = || stage.source().last_error.is_some_and(|error| error.contains(of));
        eventually(of, SOON, is_said).unwrap_or_else(|error| panic!("{error:#}: {:?}", stage.source()));
    };
    let source = "[[service.discovery]]\nkind = \"kubernetes\"\nnamespace = \"shop\"\nservice = \"web\"\n";
    stage.discover(source);
    says(&stage, "this is no pod with a service account, write `kubeconfig`");

    authority(&ours);
    put("token", "secret");
    put("namespace", "shop");
    let wrapper = pod(&stage, &account);
    stage.scene.agent.wrap(&wrapper);
    stage.scene.agent.restart().unwrap();
    stage.says(&[(0, "up", 100)]);
    stage.serves(&[0]);
    let traffic = stage.traffic();

    // The token is another from now on, and the server ends what was asked with the old one.
    server.kill();
    put("token", "renewed");
    server.believes("renewed");
    server.has(&stage, "web-a", &[(0, READY), (1, READY)]);
    server.restart(&stage);
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    stage.source_becomes("live");
    assert!(!stage.scene.agent.log().contains("renewed"));

    // An old token, and a server of another authority, are said, and the last word stands.
    let fails = |stage: &Stage, of: &str| {
        says(stage, of);
        assert_eq!(stage.source_becomes("stale").instances, 2);
        stage.serves(&[0, 1]);
    };
    server.kill();
    server.believes("another");
    server.restart(&stage);
    fails(&stage, "401");
    put("token", "another");
    stage.source_becomes("live");
    for (papers, reason) in [
        (other.issue(&address), "UnknownIssuer"),
        (ours.issue("api.example"), "not valid for name"),
        (ours.issue_expired(&address), "expired"),
    ] {
        server.kill();
        server.tls = Some(acceptor(&papers));
        server.restart(&stage);
        // Or it would wait for long until it asks again.
        stage.scene.agent.restart().unwrap();
        fails(&stage, reason);
    }
    // The cluster has another authority from now on.
    authority(&other);
    server.kill();
    server.tls = Some(acceptor(&other.issue(&address)));
    server.has(&stage, "web-a", &[(1, READY), (2, READY)]);
    server.restart(&stage);
    stage.scene.agent.restart().unwrap();
    stage.says(&[(1, "up", 100), (2, "up", 100)]);
    stage.serves(&[1, 2]);
    traffic.finish();
}
