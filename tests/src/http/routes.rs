//! What the server answers.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Deserialize;

use super::Facts;
use super::connection::Peer;

pub(super) fn routes(facts: Arc<Facts>) -> Router {
    Router::new()
        .route("/", get(name))
        .route("/healthz", get(health))
        .route("/download", get(download))
        .layer(from_fn_with_state(Arc::clone(&facts), sign))
        .with_state(facts)
}

/// Counts the request and puts the server's name on the answer.
async fn sign(State(facts): State<Arc<Facts>>, request: Request, next: Next) -> Response {
    facts.requests.fetch_add(1, Ordering::Relaxed);
    ([("x-backend", facts.name.clone())], next.run(request).await).into_response()
}

async fn name(State(facts): State<Arc<Facts>>, ConnectInfo(peer): ConnectInfo<Peer>) -> impl IntoResponse {
    ([("x-client", peer.0.to_string())], facts.name.clone())
}

async fn health(State(facts): State<Arc<Facts>>) -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(facts.pause.load(Ordering::Relaxed))).await;
    let is_healthy = facts.healthy.load(Ordering::Relaxed);
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let load = facts.load.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (status, AppendHeaders(load.map(|load| ("x-load", load))))
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Stream {
    chunks: u64,
    size: usize,
    pause_ms: u64,
}

async fn download(Query(wanted): Query<Stream>) -> Body {
    Body::from_stream(stream::unfold(0, move |sent| next_chunk(sent, wanted)))
}

async fn next_chunk(sent: u64, wanted: Stream) -> Option<(Result<Vec<u8>, Infallible>, u64)> {
    if sent == wanted.chunks {
        return None;
    }
    if sent > 0 {
        tokio::time::sleep(Duration::from_millis(wanted.pause_ms)).await;
    }
    Some((Ok(vec![b'x'; wanted.size]), sent + 1))
}
