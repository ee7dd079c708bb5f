//! Questions to real servers: TLS, endpoints that do not answer, answers without an end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{Client, HttpError, Question, encoded};
use crate::config::{Access, Endpoint, Tls, TlsProtocol};
use crate::http::authority::Authority;

fn endpoint(address: SocketAddr, is_secure: bool) -> Endpoint {
    Endpoint { is_secure, host: address.ip().to_string(), port: address.port(), base: "/base".into() }
}

fn access(endpoint: Endpoint, others: Vec<Endpoint>, tls: Option<Tls>) -> Access {
    Access { endpoint, others, tls, timeout: Duration::from_secs(2) }
}

/// A server that gives each connection a piece again and again, or once.
async fn server(
    head: &'static str,
    piece: &'static str,
    times: usize,
) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).await;
            for _ in 0..times {
                if stream.write_all(piece.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (address, AbortOnDropHandle::new(task))
}

async fn asked(access: &Access) -> Result<Value, HttpError> {
    Client::new(access).ask(&Question::get("/path").query("a", "b c")).await?.json().await
}

#[test]
fn what_is_no_plain_character_is_escaped() {
    assert_eq!(encoded("a-b/c?d é"), "a-b%2Fc%3Fd%20%C3%A9");
}

#[tokio::test]
async fn the_next_endpoint_is_asked_where_one_does_not_answer() {
    let (right, _right) = server("200 OK", "{}", 1).await;
    let (ill, _ill) = server("503 Service Unavailable", "try later", 1).await;
    let (strict, _strict) = server("403 Forbidden", "no", 1).await;
    let gone: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let [right, ill, strict, gone] = [right, ill, strict, gone].map(|address| endpoint(address, false));
    let all = access(gone.clone(), vec![ill.clone(), right.clone(), strict.clone()], None);
    assert_eq!(asked(&all).await.unwrap(), Value::Object(serde_json::Map::new()));
    let last = asked(&access(gone.clone(), vec![ill.clone()], None)).await.unwrap_err().to_string();
    assert_eq!(last, format!("GET {ill}/path returned status 503 Service Unavailable: try later"));
    // What one refuses the others refuse, too.
    let refused = asked(&access(strict, vec![right], None)).await.unwrap_err().to_string();
    assert!(refused.ends_with("/path returned status 403 Forbidden: no"), "{refused}");
    let refused = asked(&access(gone, vec![], None)).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("http://127.0.0.1:1/base cannot be reached: Connection refused"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_name_that_nobody_has_is_said() {
    let nobody = Endpoint { is_secure: false, host: "no.such.invalid".into(), port: 80, base: String::new() };
    let error = asked(&access(nobody, vec![], None)).await.unwrap_err();
    assert!(
        matches!(&error, HttpError::Unreachable { endpoint, .. } if endpoint == "http://no.such.invalid:80")
    );
}

#[tokio::test]
async fn answers_have_a_bound_and_a_time() {
    const MEGABYTE: &str = match std::str::from_utf8(&[b' '; 1 << 20]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let (large, _large) = server("200 OK", MEGABYTE, 40).await;
    let error = asked(&access(endpoint(large, false), vec![], None)).await.unwrap_err();
    assert!(matches!(&error, HttpError::Nonsense { reason, .. } if reason.contains("33554432")), "{error}");
    let (slow, _slow) = server("200 OK\r\ncontent-length: 9", "{", 1).await;
    // It closes before the end.
    let error = asked(&access(endpoint(slow, false), vec![], None)).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn tls_trusts_its_authority_and_shows_who_asks() {
    let (authority, clients) = (Authority::new("one"), Authority::new("other"));
    let (address, _server) = authority.serve("127.0.0.1", Some(&clients)).await;
    let (chain, key) = clients.identity("balancer");
    let identity = Some((chain, Arc::new(key)));
    let tls = |of: &Authority, identity| {
        Some(Tls::new(TlsProtocol::Http1, Some(of.certificates()), identity, None).unwrap())
    };
    let secure = |tls| access(endpoint(address, true), vec![], tls);
    let known = secure(tls(&authority, identity.clone()));
    Client::new(&known).ask(&Question::get("/")).await.unwrap();
    let foreign = asked(&secure(tls(&clients, identity))).await.unwrap_err();
    assert!(matches!(&foreign, HttpError::Tls { reason, .. } if reason.contains("`ca_file`")), "{foreign}");
    let unknown = asked(&secure(tls(&authority, None))).await.unwrap_err().to_string();
    assert!(unknown.to_lowercase().contains("certificate"), "{unknown}");
}
