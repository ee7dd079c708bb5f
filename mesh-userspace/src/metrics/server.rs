//! The HTTP server that Prometheus scrapes.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::render;
use crate::agent::Command;
use crate::api::AgentHandle;
use crate::api::failure::Failure;
use crate::api::probes;
use crate::api::server::{no_such_path, serve_on, wrong_method};

/// The media type of `OpenMetrics` 1.0 text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why there is no listener for metrics.
#[derive(Debug, Error)]
#[error("cannot listen for metrics on {listen} (set metrics.listen to another address, or to \"off\")")]
pub struct MetricsError {
    /// The address of the configuration.
    pub listen: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Listens where the configuration says.
///
/// # Errors
/// When the address is taken or is not of this host.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, MetricsError> {
    TcpListener::bind(listen).await.map_err(|source| MetricsError { listen, source })
}

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, agent: AgentHandle, shutdown: CancellationToken) -> io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .merge(probes::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent);
    serve_on(listener, app, shutdown).await
}

async fn metrics(State(agent): State<AgentHandle>) -> Result<impl IntoResponse, Failure> {
    let snapshot = agent.ask(Command::Metrics).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], render(&snapshot)))
}

#[cfg(test)]
mod tests;
