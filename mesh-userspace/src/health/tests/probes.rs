//! Single probes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::super::{Answer, ProbeError, Target, once};
use super::server::{ClosedPort, Server};
use crate::config::{HttpProbe, ProbeKind, Protocol, ServiceKey, Statuses};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(50);

pub(super) fn target(address: SocketAddr) -> Target<'static> {
    let service = ServiceKey::exact([203, 0, 113, 10].into(), address.port(), Protocol::Tcp);
    Target { address, service, path: None }
}

async fn tcp(address: SocketAddr, timeout: Duration) -> Result<Answer, ProbeError> {
    once(&ProbeKind::Tcp, target(address), timeout).await
}

async fn http(probe: HttpProbe, address: SocketAddr, timeout: Duration) -> Result<Answer, ProbeError> {
    once(&ProbeKind::Http(probe), target(address), timeout).await
}

async fn get(address: SocketAddr, timeout: Duration) -> Result<Answer, ProbeError> {
    http(HttpProbe::get("/healthz"), address, timeout).await
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

#[tokio::test]
async fn tcp_succeeds_where_someone_listens() {
    let listener = listener().await;
    let Answer { latency, load } = tcp(listener.local_addr().unwrap(), LONG).await.unwrap();
    assert!(latency > Duration::ZERO && latency < LONG && load.is_none());
}

#[tokio::test]
async fn tcp_names_a_refusal() {
    let closed = ClosedPort::new();
    let address = closed.address;
    assert_eq!(tcp(address, LONG).await, Err(ProbeError::Refused { address }));
}

#[tokio::test]
async fn tcp_names_a_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    // A full accept queue makes the kernel drop further connection requests.
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let begin = Instant::now();
    assert_eq!(tcp(address, SHORT).await, Err(ProbeError::ConnectTimedOut { address, after: SHORT }));
    assert!(begin.elapsed() >= SHORT);
}

#[tokio::test]
async fn http_asks_for_the_path_at_the_backends_address() {
    let server = Server::start(OK).await;
    get(server.address, LONG).await.unwrap();
    let requests = server.requests();
    let head = requests[0].to_lowercase();
    assert!(head.starts_with("get /healthz http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", server.address)), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: meshlb/"), "{head}");
}

#[tokio::test]
async fn http_sends_the_configured_host() {
    let server = Server::start(OK).await;
    let probe = HttpProbe { host: Some("www.example.org".into()), ..HttpProbe::get("/") };
    http(probe, server.address, LONG).await.unwrap();
    let head = server.requests()[0].to_lowercase();
    assert_eq!(head.matches("\r\nhost: ").count(), 1, "{head}");
    assert!(head.contains("\r\nhost: www.example.org\r\n"), "{head}");
}

#[tokio::test]
async fn http_opens_a_connection_for_each_probe() {
    let server = Server::start(OK).await;
    for _ in 0..3 {
        get(server.address, LONG).await.unwrap();
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn http_accepts_every_expected_status() {
    let server = Server::start("HTTP/1.1 204 No Content\r\n\r\n").await;
    let probe = HttpProbe { expect: Statuses::parse("200-299").unwrap(), ..HttpProbe::get("/") };
    assert!(http(probe, server.address, LONG).await.is_ok());
}

#[tokio::test]
async fn http_names_a_wrong_status() {
    let server = Server::start("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    let request = format!("GET http://{}/healthz", server.address);
    let expected = ProbeError::UnexpectedStatus { request, found: 503, expected: Statuses::one(200) };
    assert_eq!(get(server.address, LONG).await, Err(expected));
}

#[tokio::test]
async fn http_does_not_follow_a_redirect() {
    let server =
        Server::start("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n").await;
    let error = get(server.address, LONG).await.unwrap_err();
    assert!(matches!(error, ProbeError::UnexpectedStatus { found: 302, .. }), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn http_names_a_slow_answer() {
    // Connections are established by the kernel, nobody reads the request.
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let request = format!("GET http://{address}/healthz");
    assert_eq!(get(address, SHORT).await, Err(ProbeError::NoAnswer { request, after: SHORT }));
}

#[tokio::test]
async fn http_takes_the_status_though_the_body_never_ends() {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let probe = tokio::spawn(get(address, Duration::from_millis(500)));
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head).await.unwrap();
    assert!(probe.await.unwrap().is_ok());
}

#[tokio::test]
async fn http_names_a_refusal() {
    let closed = ClosedPort::new();
    let address = closed.address;
    assert_eq!(get(address, LONG).await, Err(ProbeError::Refused { address }));
}

#[tokio::test]
async fn http_names_what_is_not_http() {
    for answer in ["SSH-2.0-OpenSSH_9.2p1\r\n", ""] {
        let server = Server::start(answer).await;
        let error = get(server.address, LONG).await.unwrap_err();
        assert!(matches!(error, ProbeError::BadAnswer { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_not_the_backends_fault() {
    let closed = ClosedPort::new();
    let address = closed.address;
    let error = http(HttpProbe::get("not a path"), address, LONG).await.unwrap_err();
    assert_eq!(error, ProbeError::Refused { address }, "nothing is asked before there is a connection");
    let server = Server::start(OK).await;
    assert!(http(HttpProbe::get("not a path"), server.address, LONG).await.unwrap_err().is_local());
}
