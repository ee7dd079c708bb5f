use std::net::Ipv4Addr;
use std::time::Instant;

use axum::http::StatusCode;
use axum::{Router, body::Bytes, routing::post};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::*;
use crate::config::{Access, Endpoint};

fn config(port: u16) -> Otlp {
    let host = Ipv4Addr::LOCALHOST.to_string();
    let endpoint = Endpoint { is_secure: false, host, port, base: String::new() };
    let access = Access { endpoint, others: Vec::new(), tls: None, timeout: Access::TIMEOUT };
    Otlp { access, token_file: None, logs: true }
}

/// A collector that answers traces so.
async fn collector(status: StatusCode, answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = Router::new().route("/v1/traces", post(async move |_: Bytes| (status, answer)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

fn span() -> Span {
    let (place, now) = (Place::root(), std::time::SystemTime::now());
    Span { name: "test", place, parent: None, begun: now, ended: now, error: None, attributes: Vec::new() }
}

async fn settled(exporter: &Exporter) -> Tally {
    for _ in 0..1000 {
        if exporter.tally() != Tally::default() {
            return exporter.tally();
        }
        sleep(Duration::from_millis(10)).await;
    }
    exporter.tally()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_collector_holds_nobody_up_and_what_finds_no_room_is_counted() {
    // It takes connections, and answers none.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let exporter = Exporter::start(&config(listener.local_addr().unwrap().port()));
    let begin = Instant::now();
    let many = 3 * QUEUE;
    (0..many).for_each(|_| exporter.send(span()));
    let tally = exporter.tally();
    let least = u64::try_from(many - QUEUE - sender::BATCH).unwrap();
    assert!(tally.dropped >= least && tally.sent == 0, "{tally:?}");
    block_in_place(|| exporter.finish());
    assert!(begin.elapsed() < 2 * FAREWELL, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn what_a_collector_takes_in_part_is_counted_in_part() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".into() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let exporter = Exporter::start(&config(collector(StatusCode::OK, answer).await));
    (0..5).for_each(|_| exporter.send(span()));
    assert_eq!(settled(&exporter).await, Tally { sent: 3, dropped: 2 });
    let problem = exporter.problem().unwrap();
    assert!(problem.contains("2 records are lost: it takes some of them only: too old"), "{problem}");
}

#[tokio::test]
async fn what_is_no_answer_of_a_collector_is_told() {
    let exporter = Exporter::start(&config(collector(StatusCode::OK, b"<html>".to_vec()).await));
    exporter.send(span());
    assert_eq!(settled(&exporter).await, Tally { sent: 0, dropped: 1 });
    let problem = exporter.problem().unwrap();
    assert!(problem.contains("/v1/traces was answered with something else"), "{problem}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_again() {
    let exporter = Exporter::start(&config(collector(StatusCode::BAD_REQUEST, b"no".to_vec()).await));
    exporter.send(span());
    assert_eq!(settled(&exporter).await, Tally { sent: 0, dropped: 1 });
    assert!(exporter.problem().unwrap().contains("status 400 Bad Request: no"));
}

#[tokio::test]
async fn what_is_refused_for_now_waits() {
    let exporter = Exporter::start(&config(collector(StatusCode::SERVICE_UNAVAILABLE, vec![]).await));
    exporter.send(span());
    while exporter.problem().is_none() {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(exporter.tally(), Tally::default());
}
