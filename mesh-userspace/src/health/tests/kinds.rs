//! Probes of the other kinds, against servers of their protocols.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::super::{Answer, ProbeError, once};
use super::probes::target;
use super::server::{ClosedPort, Server};
use crate::config::{
    DnsProbe, DnsRecord, GrpcProbe, HttpProbe, Method, Pattern, ProbeKind, Tls, TlsProtocol, UdpProbe,
};
use crate::http::authority::Authority;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

async fn http(server: &Server, probe: HttpProbe) -> Result<Answer, ProbeError> {
    once(&ProbeKind::Http(probe), target(server.address), LONG).await
}

#[tokio::test]
async fn http_sends_method_and_headers() {
    let server = Server::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let headers = vec![("x-probe".into(), "1 2".into()), ("user-agent".into(), "other".into())];
    http(&server, HttpProbe { method: Method::Head, headers, ..HttpProbe::get("/h?a=b") }).await.unwrap();
    let head = server.requests()[0].to_lowercase();
    assert!(head.starts_with("head /h?a=b http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nx-probe: 1 2\r\n") && head.contains("\r\nuser-agent: other\r\n"), "{head}");
    assert_eq!(head.matches("user-agent").count(), 1);
}

#[tokio::test]
async fn http_looks_into_the_body() {
    let server = Server::start("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nstatus: up\n").await;
    let wanting = |answer| HttpProbe { answer: Some(answer), ..HttpProbe::get("/") };
    http(&server, wanting(Pattern::Text("up".into()))).await.unwrap();
    http(&server, wanting(Pattern::regex("(?m)^status: up$").unwrap())).await.unwrap();
    let error = http(&server, wanting(Pattern::Text("down".into()))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("was answered without \"down\""), "{text}");
}

#[tokio::test]
async fn http_learns_the_load_from_a_header_and_succeeds_without() {
    let asking = || HttpProbe { load_header: Some("x-load".into()), ..HttpProbe::get("/") };
    for (headers, found) in [
        ("X-Load: 0.75\r\n", Ok(0.75)),
        ("X-Load:  3 \r\n", Ok(3.0)),
        ("", Err("its answers have no header \"x-load\"")),
        ("X-Load: 75%\r\n", Err("its header \"x-load\" is \"75%\", not a number from 0 to 1000")),
        ("X-Load: NaN\r\n", Err("its header \"x-load\" is \"NaN\", not a number from 0 to 1000")),
        ("X-Load: \u{fc}\r\n", Err("its header \"x-load\" is \"\u{fc}\", not a number from 0 to 1000")),
        ("X-Load: 0.1\r\nx-load: 0.2\r\n", Err("its answers have the header \"x-load\" several times")),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n");
        let server = Server::start(answer.leak()).await;
        let load = http(&server, asking()).await.unwrap().load.unwrap();
        assert_eq!(load.map_err(|error| error.to_string()), found.map_err(str::to_owned));
        assert_eq!(http(&server, HttpProbe::get("/")).await.unwrap().load, None);
    }
    let failing = Server::start("HTTP/1.1 503 Busy\r\nX-Load: 0.1\r\nContent-Length: 0\r\n\r\n").await;
    http(&failing, asking()).await.unwrap_err();
}

fn https(tls: Tls) -> ProbeKind {
    ProbeKind::Http(HttpProbe { tls: Some(tls), ..HttpProbe::get("/") })
}

fn trusting(authority: &Authority, name: Option<&'static str>) -> Tls {
    let name = name.map(|name| ServerName::try_from(name).unwrap());
    Tls::new(TlsProtocol::Http1, Some(authority.certificates()), None, name).unwrap()
}

#[tokio::test]
async fn https_trusts_its_authority_and_no_other() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let (address, _server) = authority.serve("www.example.org", None).await;
    let kind = https(trusting(&authority, Some("www.example.org")));
    once(&kind, target(address), LONG).await.unwrap();
    let foreign = https(trusting(&other, Some("www.example.org")));
    let error = once(&foreign, target(address), LONG).await.unwrap_err();
    assert!(matches!(&error, ProbeError::Tls { reason, .. } if reason.contains("`ca_file`")), "{error}");
}

#[tokio::test]
async fn https_checks_whose_certificate_it_is() {
    let authority = Authority::new("one");
    let (address, _server) = authority.serve("127.0.0.1", None).await;
    once(&https(trusting(&authority, None)), target(address), LONG).await.unwrap();
    let kind = https(trusting(&authority, Some("www.example.org")));
    let error = once(&kind, target(address), LONG).await.unwrap_err();
    assert!(
        matches!(&error, ProbeError::Tls { reason, .. } if reason.contains("www.example.org")),
        "{error}"
    );
}

#[tokio::test]
async fn https_shows_its_own_certificate() {
    let (authority, clients) = (Authority::new("one"), Authority::new("other"));
    let (address, _server) = authority.serve("127.0.0.1", Some(&clients)).await;
    let (chain, key) = clients.identity("balancer");
    let identity = Some((chain, Arc::new(key)));
    let known = Tls::new(TlsProtocol::Http1, Some(authority.certificates()), identity, None).unwrap();
    once(&https(known), target(address), LONG).await.unwrap();
    let error = once(&https(trusting(&authority, None)), target(address), LONG).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
}

#[tokio::test]
async fn tls_with_who_does_not_speak_it_fails() {
    let authority = Authority::new("one");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }));
    let error = once(&https(trusting(&authority, None)), target(address), LONG).await.unwrap_err();
    assert!(matches!(error, ProbeError::Tls { .. }), "{error}");
}

/// The health service of tonic, with one service that serves and one that does not.
async fn grpc_server(tls: Option<TlsAcceptor>) -> (SocketAddr, AbortOnDropHandle<()>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Cart", tonic_health::ServingStatus::Serving).await;
    reporter.set_service_status("shop.Till", tonic_health::ServingStatus::NotServing).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(service.clone());
            let http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            match &tls {
                None => drop(tokio::spawn(http.serve_connection(TokioIo::new(stream), service))),
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { continue };
                    drop(tokio::spawn(http.serve_connection(TokioIo::new(stream), service)));
                }
            }
        }
    });
    (address, AbortOnDropHandle::new(task))
}

async fn grpc(address: SocketAddr, service: &str) -> Result<Answer, ProbeError> {
    let probe = GrpcProbe { service: service.into(), ..GrpcProbe::default() };
    once(&ProbeKind::Grpc(probe), target(address), LONG).await
}

#[tokio::test]
async fn grpc_asks_for_the_health_of_a_server_and_of_a_service() {
    let (address, _server) = grpc_server(None).await;
    grpc(address, "").await.unwrap();
    grpc(address, "shop.Cart").await.unwrap();
    let text = |error: ProbeError| error.to_string();
    let error = text(grpc(address, "shop.Till").await.unwrap_err());
    assert!(error.contains("of shop.Till") && error.ends_with("NOT_SERVING"), "{error}");
    let error = text(grpc(address, "shop.Other").await.unwrap_err());
    assert!(error.contains("knows no health of a service \"shop.Other\""), "{error}");
}

#[tokio::test]
async fn grpc_is_asked_inside_tls_if_wanted() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let (address, _server) = grpc_server(Some(authority.acceptor("127.0.0.1", None))).await;
    let asked = |authority: &Authority| {
        let tls = Tls::new(TlsProtocol::Http2, Some(authority.certificates()), None, None).unwrap();
        ProbeKind::Grpc(GrpcProbe { tls: Some(tls), service: "shop.Cart".into(), ..GrpcProbe::default() })
    };
    once(&asked(&authority), target(address), LONG).await.unwrap();
    let error = once(&asked(&other), target(address), LONG).await.unwrap_err();
    assert!(matches!(error, ProbeError::Tls { .. }), "{error}");
    let error = grpc(address, "").await.unwrap_err();
    assert!(matches!(error, ProbeError::BadAnswer { .. }), "in plain: {error}");
}

#[tokio::test]
async fn grpc_names_who_does_not_speak_it() {
    let server = Server::start("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = grpc(server.address, "").await.unwrap_err();
    assert!(matches!(error, ProbeError::BadAnswer { .. }), "{error}");
    let closed = ClosedPort::new();
    let error = grpc(closed.address, "").await.unwrap_err();
    assert_eq!(error, ProbeError::Refused { address: closed.address });
}

/// Answers each datagram with `answer`.
async fn udp_server(answer: &'static [u8]) -> (SocketAddr, AbortOnDropHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut datagram = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
            if &datagram[..length] == b"PING" {
                socket.send_to(answer, from).await.unwrap();
            }
        }
    });
    (address, AbortOnDropHandle::new(task))
}

async fn udp(address: SocketAddr, send: &[u8], answer: Option<Pattern>) -> Result<Answer, ProbeError> {
    once(&ProbeKind::Udp(UdpProbe { send: send.into(), answer }), target(address), SHORT).await
}

#[tokio::test]
async fn udp_waits_for_the_right_answer() {
    let (address, _server) = udp_server(b"PONG 1").await;
    udp(address, b"PING", None).await.unwrap();
    udp(address, b"PING", Some(Pattern::Text("PONG".into()))).await.unwrap();
    let error = udp(address, b"PING", Some(Pattern::Text("PING".into()))).await.unwrap_err();
    assert!(matches!(error, ProbeError::WrongAnswer { .. }), "{error}");
    let error = udp(address, b"QUIT", None).await.unwrap_err();
    let request = format!("a datagram to {address}");
    assert_eq!(error, ProbeError::NoAnswer { request, after: SHORT });
}

#[tokio::test]
async fn udp_names_a_closed_port() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let error = udp(address, b"PING", None).await.unwrap_err();
    assert_eq!(error, ProbeError::Refused { address });
}

/// Knows an address and a text of one name. In front of each answer comes one to a question that nobody asked.
async fn dns_server() -> (SocketAddr, AbortOnDropHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut datagram = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
            let question = Message::from_vec(&datagram[..length]).unwrap();
            let stray = Message::error_msg(!question.metadata.id, OpCode::Query, ResponseCode::ServFail);
            for message in [stray, dns_answer(&question)] {
                socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    (address, AbortOnDropHandle::new(task))
}

fn dns_answer(question: &Message) -> Message {
    let (id, query) = (question.metadata.id, &question.queries[0]);
    if query.name().to_ascii() != "www.example.com." {
        return Message::error_msg(id, OpCode::Query, ResponseCode::NXDomain);
    }
    let known = [
        (RecordType::A, RData::A(A::new(192, 0, 2, 80))),
        (RecordType::TXT, RData::TXT(TXT::new(vec!["all well".to_owned()]))),
    ];
    let data = known.into_iter().find(|(kind, _)| *kind == query.query_type()).map(|(_, data)| data);
    let mut answer = Message::response(id, OpCode::Query);
    answer.answers.extend(data.map(|data| Record::from_rdata(query.name().clone(), 60, data)));
    answer
}

async fn dns(
    address: SocketAddr,
    query: &str,
    record: DnsRecord,
    answer: Option<&str>,
) -> Result<Answer, ProbeError> {
    let answer = answer.map(|text| Pattern::Text(text.to_owned()));
    once(&ProbeKind::Dns(DnsProbe { query: query.into(), record, answer }), target(address), LONG).await
}

#[tokio::test]
async fn dns_asks_for_a_name_and_looks_at_the_answer() {
    let (address, _server) = dns_server().await;
    let name = "www.example.com";
    dns(address, name, DnsRecord::A, None).await.unwrap();
    dns(address, name, DnsRecord::A, Some("192.0.2.80")).await.unwrap();
    dns(address, name, DnsRecord::Txt, Some("all well")).await.unwrap();
    for (query, record, answer, expected) in [
        (name, DnsRecord::A, Some("192.0.2.81"), "was answered without \"192.0.2.81\""),
        (name, DnsRecord::Aaaa, None, "was answered without any AAAA record"),
        ("other.example.com", DnsRecord::A, None, "Non-Existent Domain"),
    ] {
        let error = dns(address, query, record, answer).await.unwrap_err().to_string();
        let asked = format!("{record} {query} asked of {address}");
        assert!(error.starts_with(&asked) && error.ends_with(expected), "{error}");
    }
}

async fn icmp(address: &str) -> Result<Answer, ProbeError> {
    let address: IpAddr = address.parse().unwrap();
    once(&ProbeKind::Icmp, target((address, 0).into()), SHORT).await
}

#[tokio::test]
async fn icmp_is_answered_over_both_families() {
    icmp("127.0.0.1").await.unwrap();
    icmp("::1").await.unwrap();
}

async fn command(script: &str) -> Result<Answer, ProbeError> {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    let address = "10.0.0.1:80".parse().unwrap();
    once(&ProbeKind::Command(PathBuf::from("/bin/sh"), arguments), target(address), 5 * SHORT).await
}

#[tokio::test]
async fn commands_say_yes_or_no_by_their_status() {
    command("exit 0").await.unwrap();
    let error = command("echo; echo ' first '; echo second; exit 3").await.unwrap_err().to_string();
    assert_eq!(error, "/bin/sh ended with exit status: 3: first");
    let error = command("echo out; echo wrong >&2; exit 1").await.unwrap_err().to_string();
    assert_eq!(error, "/bin/sh ended with exit status: 1: wrong");
    let error = command("kill -9 $$").await.unwrap_err().to_string();
    assert!(error.contains("signal: 9"), "{error}");
}

#[tokio::test]
async fn commands_know_whom_they_are_about() {
    let script = "[ \"$MESHLB_BACKEND $MESHLB_PORT $MESHLB_SERVICE\" = '10.0.0.1 80 203.0.113.10:80/tcp' ]";
    command(script).await.unwrap();
}

#[tokio::test]
async fn commands_that_write_without_end_are_bounded() {
    command("head -c 10000000 /dev/zero; exit 0").await.unwrap();
    let error = command("yes | head -c 1000000; exit 1").await.unwrap_err().to_string();
    assert_eq!(error, "/bin/sh ended with exit status: 1: y");
}

#[tokio::test]
async fn commands_that_do_not_end_are_ended_with_all_that_they_started() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let begin = Instant::now();
    let error = command(&script).await.unwrap_err().to_string();
    assert_eq!(error, "/bin/sh did not end within 500ms");
    assert!(begin.elapsed() < LONG);
    let pid = std::fs::read_to_string(file).unwrap();
    let state = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    let is_gone = || std::fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "));
    while !is_gone() {
        assert!(begin.elapsed() < LONG, "{pid} lives");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn commands_that_leave_others_behind_do_not_wait_for_them() {
    command("sleep 1000 & exit 0").await.unwrap();
}

#[tokio::test]
async fn a_command_that_is_not_there_is_this_hosts_fault() {
    let kind = ProbeKind::Command(PathBuf::from("/no/such/command"), vec![]);
    let error = once(&kind, target("10.0.0.1:80".parse().unwrap()), LONG).await.unwrap_err();
    assert!(error.is_local() && error.to_string().contains("/no/such/command"), "{error}");
}
