//! An API server in this process: each request is answered by the test, byte for byte.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertifiedIssuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::{DiscoverySource, Kubeconfig, KubernetesSource, Standing};
use crate::discovery::tests::{Heard, says};
use crate::discovery::{Instance, Report, Snapshot, Sources};

const SOON: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An API server that does what the test says.
struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Server {
    async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), tls: None }
    }

    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.listener.local_addr().unwrap())
    }

    /// The next request.
    async fn asked(&self) -> Asked {
        timeout(SOON, self.accept()).await.expect("nobody asks").unwrap()
    }

    /// The next request, which has to be for a list.
    async fn asked_for_list(&self) -> Asked {
        let asked = self.asked().await;
        let path = "GET /apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?";
        assert!(asked.head.starts_with(path), "{}", asked.head);
        asked.has("labelSelector=kubernetes.io%2Fservice-name%3Dweb");
        assert!(!asked.head.contains("watch="), "{}", asked.head);
        asked
    }

    /// The next request, which has to be for changes since a version.
    async fn asked_to_watch(&self, version: &str) -> Watch {
        let mut asked = self.asked().await;
        asked.has("watch=true");
        asked.has("labelSelector=kubernetes.io%2Fservice-name%3Dweb");
        asked.has("allowWatchBookmarks=true");
        asked.has("timeoutSeconds=60");
        asked.has(&format!("resourceVersion={version}"));
        asked
            .write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        Watch(asked)
    }

    async fn accept(&self) -> io::Result<Asked> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let stream: Box<dyn Stream> = match &self.tls {
                None => Box::new(stream),
                // Whoever does not trust the certificate goes away.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => continue,
                },
            };
            return Asked::read(stream).await;
        }
    }
}

/// A request.
struct Asked {
    head: String,
    stream: Box<dyn Stream>,
}

impl Asked {
    async fn read(mut stream: Box<dyn Stream>) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        Ok(Self { head: String::from_utf8(head).unwrap(), stream })
    }

    fn has(&self, part: &str) {
        assert!(self.head.contains(part), "no {part} in {}", self.head);
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn answer(mut self, status: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        self.write(&(head + body)).await;
        self.stream.shutdown().await.unwrap();
    }

    async fn list(self, version: &str, slices: &[Value]) {
        let list = json!({
            "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
            "metadata": { "resourceVersion": version }, "items": slices,
        });
        self.answer("200 OK", &list.to_string()).await;
    }

    async fn status(self, code: u16, reason: &str) {
        self.answer(&format!("{code} {reason}"), &status(code, reason).to_string()).await;
    }
}

/// A request for changes that is being answered. Dropped, its connection is cut.
struct Watch(Asked);

impl Watch {
    async fn raw(&mut self, bytes: &str) {
        let length = bytes.len();
        self.0.write(&format!("{length:x}\r\n{bytes}\r\n")).await;
    }

    async fn event(&mut self, kind: &str, object: &Value) {
        let event = json!({ "type": kind, "object": object });
        self.raw(&format!("{event}\n")).await;
    }

    async fn end(mut self) {
        self.0.write("0\r\n\r\n").await;
        self.0.stream.shutdown().await.unwrap();
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": format!("it is {reason}"),
    })
}

/// A slice with ready endpoints.
fn slice(name: &str, version: &str, lasts: &[u8]) -> Value {
    let endpoint =
        |last: &u8| json!({ "addresses": [format!("10.0.0.{last}")], "conditions": { "ready": true } });
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "name": name, "namespace": "shop", "resourceVersion": version },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
        "endpoints": lasts.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A source that asks a server, and where its reports come out.
struct Followed {
    directory: TempDir,
    _sources: Sources,
    reports: Heard,
}

impl Followed {
    fn asks(server: &Server) -> Self {
        Self::by(&format!("server: \"{}\"", server.url()), None)
    }

    /// By a kubeconfig with this cluster.
    fn by(cluster: &str, context: Option<&str>) -> Self {
        let directory = tempdir().unwrap();
        let path = write(directory.path(), cluster);
        let source = KubernetesSource {
            namespace: "shop".to_owned(),
            service: "web".to_owned(),
            port_name: Some("http".to_owned()),
            kubeconfig: Some(Kubeconfig { path, context: context.map(str::to_owned) }),
        };
        let (tx, reports) = Heard::channel();
        let mut sources = Sources::new(tx, &directory.path().join("state"));
        sources.update([DiscoverySource::Kubernetes(source)].iter());
        Self { directory, _sources: sources, reports }
    }
}

/// Writes a kubeconfig, and the token that it names.
fn write(directory: &Path, cluster: &str) -> PathBuf {
    let (file, token) = (directory.join("kubeconfig"), directory.join("token"));
    std::fs::write(&token, "first").unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{ name: c, cluster: {{ {cluster} }} }}]\n\
         users: [{{ name: u, user: {{ tokenFile: {token:?} }} }}]\n\
         contexts: [{{ name: here, context: {{ cluster: c, user: u }} }}]\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn of(lasts: &[u8]) -> Snapshot {
    lasts.iter().map(|last| Instance::new([10, 0, 0, *last].into(), Some(80))).collect()
}

fn has(lasts: &[u8]) -> impl Fn(&Report) -> bool {
    says(of(lasts))
}

#[tokio::test]
async fn slices_are_listed_and_then_watched() {
    let server = Server::start().await;
    let mut followed = Followed::asks(&server);
    server.asked_for_list().await.list("10", &[slice("a", "5", &[1, 2])]).await;
    followed.reports.until(has(&[1, 2])).await;
    let mut watch = server.asked_to_watch("10").await;
    watch.0.has("uthorization: Bearer first");
    watch.event("ADDED", &slice("b", "11", &[3])).await;
    followed.reports.until(has(&[1, 2, 3])).await;
    let mut modified = slice("a", "12", &[1, 2]);
    modified["endpoints"][0]["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
    watch.event("MODIFIED", &modified).await;
    let drains = |report: &Report| {
        let first = report.snapshot.as_ref().and_then(|snapshot| snapshot.instances().first().copied());
        first.is_some_and(|instance| instance.standing == Standing::Draining)
    };
    followed.reports.until(drains).await;
    watch.event("DELETED", &slice("a", "13", &[])).await;
    let before = followed.reports.until(has(&[3])).await.confirmed;
    // A bookmark says that all is as it was, and up to which version.
    watch.event("BOOKMARK", &json!({ "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": { "resourceVersion": "40" } })).await;
    watch.end().await;
    let watch = server.asked_to_watch("40").await;
    let report = followed.reports.now();
    assert!(has(&[3])(&report) && report.errors == 0 && report.confirmed > before, "{report:?}");
    assert!(report.confirmed <= Some(SystemTime::now()));
    drop(watch);
}

#[tokio::test]
async fn what_the_server_has_forgotten_is_listed_again() {
    let server = Server::start().await;
    let mut followed = Followed::asks(&server);
    server.asked_for_list().await.list("10", &[slice("a", "5", &[1]), slice("b", "6", &[2])]).await;
    // As an event; slices that went away meanwhile are not in the new list.
    let mut watch = server.asked_to_watch("10").await;
    watch.event("ERROR", &status(410, "Expired")).await;
    server.asked_for_list().await.list("20", &[slice("a", "15", &[3])]).await;
    followed.reports.until(has(&[3])).await;
    // As a status.
    server.asked().await.status(410, "Expired").await;
    server.asked_for_list().await.list("30", &[]).await;
    let report = followed.reports.until(has(&[])).await;
    assert_eq!(report.errors, 0, "{report:?}");
}

#[tokio::test]
async fn refusals_and_failures_change_nothing_and_are_said() {
    let server = Server::start().await;
    let mut followed = Followed::asks(&server);
    server.asked_for_list().await.list("10", &[slice("a", "5", &[1])]).await;
    followed.reports.until(has(&[1])).await;
    let unchanged = |report: &Report| assert_eq!(report.snapshot.as_deref(), Some(&of(&[1])), "{report:?}");
    server.asked().await.status(500, "Broken").await;
    unchanged(&followed.reports.fails("the API server answers 500: it is Broken").await);
    server.asked_for_list().await.answer("502 Bad Gateway", "<html>").await;
    unchanged(&followed.reports.fails("the API server answers 502: <html>").await);
    // The token has changed: the file is read again.
    std::fs::write(followed.directory.path().join("token"), "second").unwrap();
    server.asked_for_list().await.status(401, "Unauthorized").await;
    unchanged(&followed.reports.fails("the API server answers 401: it is Unauthorized").await);
    let asked = server.asked_for_list().await;
    asked.has("uthorization: Bearer second");
    asked.list("11", &[slice("a", "5", &[2])]).await;
    followed.reports.until(has(&[2])).await;
}

#[tokio::test]
async fn what_is_not_understood_changes_nothing_and_is_said() {
    let server = Server::start().await;
    let mut followed = Followed::asks(&server);
    server.asked_for_list().await.list("10", &[slice("a", "5", &[1])]).await;
    followed.reports.until(has(&[1])).await;
    let unchanged = |report: &Report| assert_eq!(report.snapshot.as_deref(), Some(&of(&[1])), "{report:?}");
    drop(server.asked().await);
    unchanged(&followed.reports.fails("the API server cannot be asked: ").await);
    server.asked_for_list().await.answer("200 OK", "{\"items\": [").await;
    unchanged(&followed.reports.fails("the API server's answer is not understood: EOF").await);
    server.asked_for_list().await.list("11", &[slice("a", "5", &[1])]).await;
    followed.reports.until(has(&[1])).await;
    // What is in the place of an event.
    let mut watch = server.asked_to_watch("11").await;
    watch.raw("{\"type\": \"ADDED\", \"object\": 7}\n").await;
    unchanged(
        &followed.reports.fails("the API server's answer is not understood: it is neither an event").await,
    );
    server.asked_for_list().await.list("12", &[slice("a", "5", &[1])]).await;
    let mut wrong = slice("b", "13", &[2]);
    wrong["addressType"] = json!("IPX");
    let mut watch = server.asked_to_watch("12").await;
    watch.event("ADDED", &wrong).await;
    unchanged(
        &followed
            .reports
            .fails("the EndpointSlice \"b\" is not understood: the type of its addresses is \"IPX\"")
            .await,
    );
    server.asked_for_list().await.list("14", &[slice("a", "5", &[1]), slice("b", "14", &[2])]).await;
    followed.reports.until(has(&[1, 2])).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_taken_up_where_it_was() {
    let server = Server::start().await;
    let mut followed = Followed::asks(&server);
    server.asked_for_list().await.list("10", &[slice("a", "5", &[1])]).await;
    let mut watch = server.asked_to_watch("10").await;
    watch.event("MODIFIED", &slice("a", "11", &[2])).await;
    followed.reports.until(has(&[2])).await;
    let line = json!({ "type": "MODIFIED", "object": slice("a", "12", &[3]) }).to_string();
    watch.raw(&line[..line.len() / 2]).await;
    drop(watch);
    let mut watch = server.asked_to_watch("11").await;
    watch.event("MODIFIED", &slice("a", "12", &[3])).await;
    let report = followed.reports.until(has(&[3])).await;
    assert_eq!(report.errors, 0, "{report:?}");
}

#[tokio::test]
async fn a_server_that_ends_every_watch_is_not_asked_without_a_pause() {
    let server = Server::start().await;
    let _followed = Followed::asks(&server);
    server.asked_for_list().await.list("10", &[slice("a", "5", &[1])]).await;
    let many = async {
        for _ in 0..4 {
            server.asked_to_watch("10").await.end().await;
        }
    };
    // 250 ms, 500 ms and 1 s at least.
    assert!(timeout(Duration::from_millis(1500), many).await.is_err());
}

/// A server's TLS, and the authority of its certificate.
fn tls() -> (TlsAcceptor, String) {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    (TlsAcceptor::from(Arc::new(server.unwrap())), issuer.pem())
}

#[tokio::test]
async fn only_a_server_that_the_kubeconfig_trusts_is_asked() {
    let mut server = Server::start().await;
    let (acceptor, authority) = tls();
    server.tls = Some(acceptor);
    let directory = tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, tls().1).unwrap();
    let cluster = format!("server: \"{}\", certificate-authority: {ca:?}", server.url());
    let mut followed = Followed::by(&cluster, Some("here"));
    let (report, _) = tokio::join!(followed.reports.fails("the API server cannot be asked: "), async {
        // Somebody has to refuse to talk.
        let _ = timeout(Duration::from_secs(3), server.accept()).await;
    });
    assert!(report.error.as_ref().is_some_and(|error| error.contains("certificate")), "{report:?}");
    // The file is read again.
    std::fs::write(&ca, authority).unwrap();
    server.asked_for_list().await.list("10", &[slice("a", "5", &[1])]).await;
    followed.reports.until(has(&[1])).await;
}

#[tokio::test]
async fn a_kubeconfig_that_is_of_no_use_is_said() {
    let file = |followed: &Followed| followed.directory.path().join("kubeconfig").display().to_string();
    let mut followed = Followed::by("server: \"http://127.0.0.1:1\"", Some("elsewhere"));
    let error = followed.reports.fails("elsewhere").await.error.unwrap();
    assert!(error.starts_with(&format!("{} is of no use: ", file(&followed))), "{error}");
    std::fs::write(file(&followed), "- no\n- kubeconfig\n").unwrap();
    let before = error;
    followed.reports.until(|report| report.error.as_ref().is_some_and(|error| *error != before)).await;
    std::fs::remove_file(file(&followed)).unwrap();
    followed.reports.fails("No such file").await;
    // Nobody is there.
    let mut followed = Followed::by("server: \"http://127.0.0.1:1\"", None);
    followed.reports.fails("the API server cannot be asked: ").await;
}
