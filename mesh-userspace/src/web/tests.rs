//! Who is let in, what is answered to whom, and what browsers are told.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::api::Readiness;
use crate::api::tests::agent::usual;
use crate::api::types::{ApiError, BackendView, OrderReport, Status};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A served page, and the file of its token.
struct Served {
    address: SocketAddr,
    token_file: PathBuf,
    _directory: TempDir,
    _stop: tokio_util::sync::DropGuard,
}

/// A page on an address of loopback, with an agent that answers as usual.
async fn served(has_token: bool) -> Served {
    let directory = TempDir::new().unwrap();
    let token_file = directory.path().join("token");
    fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    let token = has_token.then_some(token_file.as_path());
    let door = Door::open("127.0.0.1:0".parse().unwrap(), token).await.unwrap();
    served_by(door, token_file, directory)
}

/// A page that would be reachable from other hosts.
async fn served_to_others() -> Served {
    let served = served(true).await;
    let Served { token_file, _directory: directory, .. } = served;
    let guard = Guard::new("0.0.0.0".parse().unwrap(), Some(&token_file)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    served_by(Door { listener, guard: Arc::new(guard) }, token_file, directory)
}

fn served_by(door: Door, token_file: PathBuf, directory: TempDir) -> Served {
    let (commands, mut received) = mpsc::channel(8);
    let (_, ready) = watch::channel(Readiness::Ready);
    tokio::spawn(async move {
        while let Some(command) = received.recv().await {
            usual(command);
        }
    });
    let address = door.listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(door, AgentHandle::new(commands, ready), shutdown.clone()));
    Served { address, token_file, _directory: directory, _stop: shutdown.drop_guard() }
}

impl Served {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.request(method, format!("http://{}{path}", self.address))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    fn drain(&self) -> RequestBuilder {
        self.request(Method::POST, "/v1/services/web/backends/10.0.0.1/drain")
    }

    fn explain(&self, body: &str) -> RequestBuilder {
        let request = self.request(Method::POST, "/v1/explain").header("content-type", "application/json");
        request.body(body.to_owned())
    }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

/// The status and the words of a refusal.
async fn refused(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let error: ApiError = response.json().await.unwrap();
    (status, error.error)
}

const JS: &str = "text/javascript; charset=utf-8";

#[tokio::test]
async fn every_file_of_the_page_is_served_and_hardened() {
    let served = served(false).await;
    let files = [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/app.js", JS),
        ("/model.js", JS),
        ("/draw.js", JS),
        ("/topology.js", JS),
    ];
    for (path, media) in files {
        let response = served.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], media, "{path}");
        check_hardened(&response);
        assert!(response.text().await.unwrap().len() > 100, "{path}");
    }
    for path in ["/v1/status", "/v1/nothing"] {
        check_hardened(&served.get(path).send().await.unwrap());
    }
    check_hardened(&served.get("/").header("host", "evil.example").send().await.unwrap());
}

fn check_hardened(response: &Response) {
    let headers = response.headers();
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    assert_eq!(headers["x-frame-options"], "DENY");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(!headers.contains_key("access-control-allow-origin"));
}

/// With the policy, code within the page would not run.
#[test]
fn the_page_has_no_code_of_its_own_and_names_no_other_origin() {
    let page = include_str!("page/index.html");
    let forbidden = regex::Regex::new(r#"<style|\sstyle=|\son\w+=|//|javascript:"#).unwrap();
    assert_eq!(forbidden.find(page), None);
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("<script type=\"module\" src=\"app.js\"></script>"));
}

#[tokio::test]
async fn this_host_may_look_without_a_token() {
    let served = served(false).await;
    let view: Status = served.get("/v1/status").send().await.unwrap().json().await.unwrap();
    assert!(view.ready);
    let backends: Vec<BackendView> = served.get("/v1/backends").send().await.unwrap().json().await.unwrap();
    assert_eq!(backends.len(), 2);
    for path in ["/v1/services", "/v1/events?limit=3", "/v1/outcomes"] {
        assert_eq!(status(served.get(path)).await, 200, "{path}");
    }
    let session: Session = served.get("/v1/session").send().await.unwrap().json().await.unwrap();
    assert_eq!(session, Session { takes_orders: false, authorised: false });
}

#[tokio::test]
async fn no_more_of_the_api_is_served_than_the_page_needs() {
    let served = served(true).await;
    for path in ["/v1/flows", "/v1/trace", "/metrics", "/readyz", "/v1/maintenance/10.0.0.1"] {
        assert_eq!(status(served.get(path).bearer_auth(TOKEN)).await, 404, "{path}");
    }
    for path in ["/v1/reload", "/v1/services/web/split", "/v1/services/web/backends/10.0.0.1/weight"] {
        assert_eq!(status(served.request(Method::POST, path).bearer_auth(TOKEN)).await, 404, "{path}");
    }
    for (method, path) in [(Method::POST, "/v1/status"), (Method::DELETE, "/"), (Method::GET, "/v1/explain")]
    {
        let (status, error) = refused(served.request(method.clone(), path)).await;
        assert_eq!((status, error), (405, format!("{path} does not take {method}")));
    }
}

#[tokio::test]
async fn other_hosts_may_look_with_the_token_only() {
    let served = served_to_others().await;
    assert_eq!(status(served.get("/")).await, 200);
    for path in ["/v1/status", "/v1/services", "/v1/backends", "/v1/events", "/v1/session", "/v1/outcomes"] {
        let response = served.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(status(served.get(path).bearer_auth(TOKEN)).await, 200, "{path}");
    }
    let question = r#"{"from":"192.0.2.1:1","to":"192.0.2.2:1","protocol":"tcp"}"#;
    assert_eq!(refused(served.explain(question)).await.0, 401);
    assert_eq!(refused(served.explain(question).bearer_auth(TOKEN)).await.0, 404);
}

#[tokio::test]
async fn orders_need_the_token() {
    let served = served(true).await;
    assert_eq!(refused(served.drain()).await, (401, "this needs the token".into()));
    let longer = format!("{TOKEN}0");
    for wrong in ["x", &TOKEN[1..], &longer, &TOKEN.to_uppercase(), "\u{e9}"] {
        assert_eq!(refused(served.drain().bearer_auth(wrong)).await.0, 401, "{wrong}");
        assert_eq!(refused(served.get("/v1/session").bearer_auth(wrong)).await.0, 401, "{wrong}");
    }
    assert_eq!(refused(served.drain().basic_auth(TOKEN, Some(TOKEN))).await.0, 401);
    let report: OrderReport = served.drain().bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    assert!(report.draining, "{report:?}");
    let session: Session =
        served.get("/v1/session").bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    assert_eq!(session, Session { takes_orders: true, authorised: true });
}

#[tokio::test]
async fn without_a_configured_token_there_are_no_orders() {
    let served = served(false).await;
    for request in [served.drain(), served.drain().bearer_auth(""), served.drain().bearer_auth(TOKEN)] {
        assert_eq!(refused(request).await, (403, "this agent takes no orders over the web".into()));
    }
}

#[tokio::test]
async fn a_token_is_replaced_without_a_restart_and_none_lets_nobody_in() {
    let served = served(true).await;
    let other = "f".repeat(32);
    fs::write(&served.token_file, &other).unwrap();
    assert_eq!(status(served.drain().bearer_auth(TOKEN)).await, 401);
    assert_eq!(status(served.drain().bearer_auth(&other)).await, 200);
    fs::write(&served.token_file, "short").unwrap();
    assert_eq!(status(served.drain().bearer_auth("short")).await, 401);
    fs::write(&served.token_file, "").unwrap();
    assert_eq!(status(served.drain().bearer_auth("")).await, 503);
    fs::remove_file(&served.token_file).unwrap();
    assert_eq!(refused(served.drain().bearer_auth(&other)).await.0, 503);
}

#[tokio::test]
async fn tokens_that_cannot_be_used_and_taken_addresses_keep_the_agent_from_starting() {
    let served = served(true).await;
    let loopback = "127.0.0.1:0".parse().unwrap();
    let open = async |file: &Path| Door::open(loopback, Some(file)).await.unwrap_err().to_string();
    fs::write(&served.token_file, "0123456789abcdef").unwrap();
    let error = open(&served.token_file).await;
    assert!(
        error.contains("the token has 16 bytes, and needs 32 (make one: openssl rand -hex 32)"),
        "{error}"
    );
    let error = open(Path::new("/no/such")).await;
    assert!(error.starts_with("web.token_file: /no/such cannot be read"), "{error}");
    let error = Door::open(served.address, None).await.unwrap_err();
    assert!(error.to_string().contains(&format!("for browsers on {}", served.address)), "{error}");
}

#[tokio::test]
async fn only_addresses_and_localhost_are_names_of_this_agent() {
    let served = served(true).await;
    let port = served.address.port();
    for host in ["localhost", &format!("LOCALHOST:{port}"), "127.0.0.1", "[::1]:9148", "192.0.2.7:80"] {
        assert_eq!(status(served.get("/v1/status").header("host", host)).await, 200, "{host}");
    }
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:9148", "x@localhost:1:2", ""]
    {
        assert_eq!(refused(served.get("/v1/status").header("host", host)).await.0, 421, "{host}");
        assert_eq!(status(served.get("/").header("host", host)).await, 421, "{host}");
        let order = served.drain().bearer_auth(TOKEN).header("host", host);
        assert_eq!(status(order).await, 421, "{host}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_get_nothing() {
    let served = served(true).await;
    let own = format!("http://{}", served.address);
    let order = |origin: &str| served.drain().bearer_auth(TOKEN).header("origin", origin);
    assert_eq!(status(order(&own)).await, 200);
    for origin in
        ["http://evil.example", "null", "http://127.0.0.1:1", "", "file://", &format!("{own}.evil.example")]
    {
        assert_eq!(refused(order(origin)).await.0, 403, "{origin}");
        assert_eq!(refused(served.explain("{}").header("origin", origin)).await.0, 403, "{origin}");
    }
}

#[tokio::test]
async fn questions_that_are_none_are_refused_with_what_is_wrong() {
    let served = served(false).await;
    let asked = |from: &str, to: &str, protocol: &str, rest: &str| {
        format!(r#"{{"from":"{from}","to":"{to}","protocol":"{protocol}"{rest}}}"#)
    };
    // The usual agent knows no interface, which it is asked for once the packet is put together.
    let right =
        asked("192.0.2.1:4000", " 203.0.113.10:80 ", "tcp", r#","flags":["syn"],"down":["10.0.0.1"]"#);
    assert_eq!(refused(served.explain(&right)).await, (404, "no None".into()));
    let (from, to) = ("192.0.2.1:4000", "203.0.113.10:80");
    let cases = [
        (asked("there", to, "tcp", ""), 400, "\"there\" is not an address with a port"),
        (asked(from, "", "tcp", ""), 400, "\"\" is not an address with a port"),
        (asked(from, to, "sctp", ""), 400, "\"sctp\" is neither tcp nor udp nor a number from 0 to 255"),
        (asked(from, "[2001:db8::1]:80", "udp", ""), 400, "of different families"),
        (asked(from, to, "tcp", r#","down":["web"]"#), 400, "web is not an IP address"),
        (asked(from, to, "tcp", r#","flags":["urg"]"#), 422, "unknown variant `urg`"),
        (asked(from, to, "tcp", r#","interface":"eth0""#), 422, "unknown field `interface`"),
        ("{".into(), 400, "EOF"),
        ("{}".into(), 422, "missing field `from`"),
        (format!("\"{}\"", "x".repeat(LONGEST_BODY)), 413, "length limit exceeded"),
    ];
    for (body, status, words) in cases {
        let (found, error) = refused(served.explain(&body)).await;
        assert!(found == status && error.contains(words), "{found} {error} for {body:.200}");
    }
    let untyped = served.request(Method::POST, "/v1/explain").body(right);
    assert_eq!(refused(untyped).await.0, 415);
}

#[tokio::test]
async fn a_request_without_or_with_two_hosts_is_refused() {
    let served = served(false).await;
    for hosts in ["", "Host: localhost\r\nHost: localhost\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer));
        read.await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}
