//! `GET /v1/trace`: packets as they are balanced, a line of JSON for each, until the client goes.
//!
//! `service`, `client`, `backend`, `outcome` (as often as need be), `flags` (a number) and `sample` say which, `seconds` for how
//! long.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use mesh_common::outcome::Outcome;

use super::failure::Failure;
use super::handle::AgentHandle;
use super::server::{address_of, pairs};
use super::types::TraceLine;
use crate::agent::trace::{Wanted, tell};

pub(super) async fn trace(State(agent): State<AgentHandle>, uri: Uri) -> Result<Response, Failure> {
    let (wanted, lasting) = wanted(uri.query().unwrap_or_default())?;
    let watch = tell(agent, wanted, lasting).await?;
    let lines = stream::unfold(watch, |mut watch| async {
        let line = watch.recv().await?;
        Some((json(&line), watch))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

fn json(line: &TraceLine) -> serde_json::Result<String> {
    serde_json::to_string(line).map(|text| text + "\n")
}

fn wanted(query: &str) -> Result<(Wanted, Option<Duration>), Failure> {
    let (mut wanted, mut lasting) = (Wanted::default(), None);
    for (key, value) in pairs(query)? {
        match key.as_str() {
            "service" => wanted.service = Some(value),
            "client" => {
                let net = value.parse();
                wanted.client = Some(
                    net.map_err(|_not_a_prefix| Failure::bad_request(format!("{value} is not a prefix")))?,
                );
            }
            "backend" => wanted.backend = Some(address_of(&value)?),
            "outcome" => wanted.outcomes.push(outcome(&value)?),
            "flags" => wanted.flags = number(&value)?,
            "sample" => wanted.sample = number(&value)?,
            "seconds" => lasting = Some(Duration::from_secs(number(&value)?)),
            other => return Err(Failure::bad_request(format!("there is no parameter {other}"))),
        }
    }
    Ok((wanted, lasting))
}

fn outcome(label: &str) -> Result<Outcome, Failure> {
    let found = Outcome::ALL.iter().find(|outcome| outcome.label() == label);
    found.copied().ok_or_else(|| Failure::bad_request(format!("there is no outcome {label}")))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_not_a_number| Failure::bad_request(format!("{text} is not such a number")))
}
