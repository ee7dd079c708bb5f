use reqwest::{Response, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::api::Readiness;
use crate::api::types::ApiError;
use crate::metrics::Snapshot;

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    server: JoinHandle<io::Result<()>>,
}

/// A server whose loop takes a snapshot of version `scrape-N`, N counting.
async fn served() -> Served {
    let (commands, mut received) = mpsc::channel(1);
    let (_, ready) = watch::channel(Readiness::Ready);
    tokio::spawn(async move {
        let mut scrapes = 0;
        while let Some(command) = received.recv().await {
            let Command::Metrics(reply) = command else { panic!("{command:?}") };
            scrapes += 1;
            reply.send(Snapshot { version: format!("scrape-{scrapes}"), ..Snapshot::default() }).unwrap();
        }
    });
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, AgentHandle::new(commands, ready), shutdown.clone()));
    Served { address, shutdown, server }
}

impl Served {
    async fn get(&self, path: &str) -> Response {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.get(format!("http://{}{path}", self.address)).send().await.unwrap()
    }
}

#[tokio::test]
async fn every_scrape_takes_a_fresh_snapshot() {
    let served = served().await;
    for scrape in ["scrape-1", "scrape-2"] {
        let response = served.get("/metrics").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
        let text = response.text().await.unwrap();
        assert!(text.contains(&format!("meshlb_build_info{{version=\"{scrape}\"}} 1\n")), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}

#[tokio::test]
async fn liveness_and_readiness_are_served() {
    let served = served().await;
    assert_eq!(served.get("/healthz").await.text().await.unwrap(), "ok\n");
    assert_eq!(served.get("/readyz").await.text().await.unwrap(), "ready\n");
}

#[tokio::test]
async fn the_api_is_not_reachable_over_the_network() {
    let served = served().await;
    let response = served.get("/v1/status").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let error: ApiError = response.json().await.unwrap();
    assert_eq!(error.error, "there is no /v1/status here");
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let served = served().await;
    let error = bind(served.address).await.unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&served.address.to_string()));
}

#[tokio::test]
async fn the_server_stops_when_asked() {
    let served = served().await;
    served.shutdown.cancel();
    served.server.await.unwrap().unwrap();
}
