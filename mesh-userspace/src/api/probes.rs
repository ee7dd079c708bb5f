//! `/healthz` and `/readyz`, the same on the API's socket and on the metrics' port.

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use super::failure::Failure;
use super::handle::{AgentHandle, Readiness};

/// The two routes.
pub(crate) fn routes() -> Router<AgentHandle> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Alive: the agent's loop has not ended.
async fn healthz(State(agent): State<AgentHandle>) -> Result<&'static str, Failure> {
    agent.is_alive().then_some("ok\n").ok_or_else(Failure::stopping)
}

/// Ready: the tables are loaded and the loop has not ended.
async fn readyz(State(agent): State<AgentHandle>) -> Result<&'static str, Failure> {
    if !agent.is_alive() {
        return Err(Failure::stopping());
    }
    match agent.readiness() {
        Readiness::Ready => Ok("ready\n"),
        Readiness::NotReady(reason) => Err(Failure::unavailable(format!("not ready: {reason}"))),
    }
}
