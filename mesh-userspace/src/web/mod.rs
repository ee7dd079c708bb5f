//! The page for people, `[web]`: what the command line shows, live, in a browser.
//!
//! Invariants: what can be asked is what the API's own handlers answer, and no more than looking, explaining and
//! draining. Looking is free only to this host; orders need the token, wherever they come from. A page of another
//! origin can neither read nor order anything, whatever name it gives this address.

mod guard;
mod page;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use axum::{Json, Router};
use mesh_common::outcome::Outcome;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::guard::Guard;
use crate::agent::explain::{Assumption, Question, verdict};
use crate::api::AgentHandle;
use crate::api::failure::Failure;
use crate::api::server::{Answer, address_of, drains, looks, no_such_path, serve_on, wrong_method};
use crate::api::types::Explanation;
use crate::discovery::SourceError;
use crate::packet::{self, BuildError, Described, Flag};

/// The longest body of a request; a question about a packet is far shorter: bytes.
const LONGEST_BODY: usize = 4096;

/// Why there is no web page.
#[derive(Debug, Error)]
pub enum WebError {
    /// The address cannot be had.
    #[error("cannot listen for browsers on {listen} (set web.listen to another address, or to \"off\")")]
    Listen {
        /// The address of the configuration.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The token cannot be used.
    #[error("web.token_file: {0}")]
    Token(#[from] SourceError),
    /// The token could be guessed.
    #[error(
        "web.token_file: {file}: the token has {bytes} bytes, and needs {least} (make one: openssl rand -hex 32)",
        least = guard::SHORTEST_TOKEN
    )]
    ShortToken {
        /// The file.
        file: String,
        /// Bytes of the token.
        bytes: usize,
    },
}

/// A listener, and who may pass.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    guard: Arc<Guard>,
}

impl Door {
    /// Listens where the configuration says.
    ///
    /// # Errors
    /// The address is taken or is not of this host; the token cannot be read, or is too short.
    pub async fn open(listen: SocketAddr, token_file: Option<&Path>) -> Result<Self, WebError> {
        let guard = Arc::new(Guard::new(listen.ip(), token_file).await?);
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| WebError::Listen { listen, source })?;
        Ok(Self { listener, guard })
    }
}

/// Serves the page and what it asks for until `shutdown`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(door: Door, agent: AgentHandle, shutdown: CancellationToken) -> io::Result<()> {
    serve_on(door.listener, router(agent, &door.guard), shutdown).await
}

fn router(agent: AgentHandle, guard: &Arc<Guard>) -> Router {
    let session = get(session).with_state(Arc::clone(guard));
    let looks = looks()
        .route("/v1/outcomes", get(outcomes))
        .route("/v1/explain", post(explain))
        .route("/v1/session", session)
        .route_layer(from_fn_with_state(Arc::clone(guard), guard::may_look));
    let orders = drains().route_layer(from_fn_with_state(Arc::clone(guard), guard::may_order));
    page::routes()
        .merge(looks)
        .merge(orders)
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn(guard::is_addressed))
        .layer(from_fn(guard::harden))
        .with_state(agent)
}

/// What whoever asks may do.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// Whether there are orders at all: a token is configured.
    takes_orders: bool,
    /// Whether the token was there.
    authorised: bool,
}

async fn session(State(guard): State<Arc<Guard>>, headers: HeaderMap) -> Answer<Session> {
    let authorised = guard::has_token(&headers);
    if authorised {
        guard.check(&headers).await?;
    }
    Ok(Json(Session { takes_orders: guard.takes_orders(), authorised }))
}

/// An end of a packet's journey.
#[derive(Debug, Serialize)]
struct OutcomeView {
    name: &'static str,
    /// `pass`, `drop`, `transmit` or `redirect`.
    verdict: &'static str,
    meaning: &'static str,
}

async fn outcomes() -> Json<Vec<OutcomeView>> {
    let view = |outcome: &Outcome| OutcomeView {
        name: outcome.label(),
        verdict: verdict(*outcome),
        meaning: outcome.about(),
    };
    Json(Outcome::ALL.iter().map(view).collect())
}

/// A question about a packet, as people put it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The client.
    from: String,
    /// Whom the packet is to.
    to: String,
    /// `tcp`, `udp` or a number.
    protocol: String,
    /// Flags of a TCP segment.
    #[serde(default)]
    flags: Vec<Flag>,
    /// Backends that are assumed to be down.
    #[serde(default)]
    down: Vec<String>,
}

async fn explain(
    State(agent): State<AgentHandle>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Answer<Explanation> {
    let Json(asked) = asked?;
    crate::api::explain::answer(&agent, question(asked)?).await
}

fn question(asked: Asked) -> Result<Question, Failure> {
    let end = |text: &str| {
        packet::end(text.trim()).map_err(|what| Failure::bad_request(format!("{text:?} is {what}")))
    };
    let proto = asked.protocol.parse();
    let described = Described {
        from: end(&asked.from)?,
        to: end(&asked.to)?,
        proto: proto.map_err(|what| Failure::bad_request(format!("{:?} is {what}", asked.protocol)))?,
        flags: asked.flags,
        payload: 0,
    };
    let down = asked.down.iter().map(|address| address_of(address.trim()).map(Assumption::Down));
    Ok(Question { packet: described.build()?, interface: None, assumptions: down.collect::<Result<_, _>>()? })
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}
