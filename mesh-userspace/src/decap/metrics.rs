//! The decapsulator's counters, for Prometheus.

use super::Outcomes;
use crate::{
    api::{
        failure::Failure,
        server::{no_such_path, serve_on, wrong_method},
    },
    metrics::{CONTENT_TYPE, counter, encode},
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use mesh_common::outcome::DecapOutcome;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use std::{collections::BTreeMap, fmt, io, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How many packets ended in each outcome.
#[derive(Debug)]
struct Packets(BTreeMap<DecapOutcome, u64>);

impl Collector for Packets {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let outcomes = self.0.iter().map(|(outcome, count)| ([("outcome", outcome.label())], *count));
        counter(
            &mut to,
            "decap_packets",
            "Packets by the outcome of their journey through the decapsulator",
            outcomes,
        )
    }
}

/// The counters as OpenMetrics text.
#[must_use]
pub fn render(outcomes: BTreeMap<DecapOutcome, u64>) -> String {
    encode(Packets(outcomes))
}

/// Serves `/metrics` until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    counters: Arc<Outcomes>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(counters);
    serve_on(listener, app, shutdown).await
}

async fn metrics(State(counters): State<Arc<Outcomes>>) -> Result<impl IntoResponse, Failure> {
    let outcomes = counters.read();
    let outcomes =
        outcomes.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], render(outcomes)))
}
