//! Who may look, who may order, and what browsers are told to forbid.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;
use tracing::warn;

use super::WebError;
use crate::api::failure::Failure;
use crate::discovery::Secret;

/// A shorter token might be guessed: 128 bits in hexadecimal digits: bytes.
pub(super) const SHORTEST_TOKEN: usize = 32;

/// Nothing but this origin's own files and answers; no inline code, no frames around the page, no forms that leave.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every answer.
const HARDENING: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Who may do what.
#[derive(Debug)]
pub(super) struct Guard {
    /// Whether nobody but this host can ask.
    is_private: bool,
    /// What holds the token, read anew for every request that needs it; none: there are no orders.
    token_file: Option<PathBuf>,
}

impl Guard {
    /// That of a listener, whose token can be used now.
    pub(super) async fn new(address: IpAddr, token_file: Option<&Path>) -> Result<Self, WebError> {
        if let Some(file) = token_file {
            let bytes = Secret::read(file).await?.reveal().len();
            if bytes < SHORTEST_TOKEN {
                return Err(WebError::ShortToken { file: file.display().to_string(), bytes });
            }
        }
        Ok(Self { is_private: address.is_loopback(), token_file: token_file.map(Path::to_owned) })
    }

    pub(super) const fn takes_orders(&self) -> bool {
        self.token_file.is_some()
    }

    /// Whether a request carries the token.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(file) = &self.token_file else { return Err(no_orders()) };
        let secret = Secret::read(file).await.map_err(|error| {
            warn!(%error, "could not read the token of the web page, so that nobody is let in");
            Failure::unavailable("the token cannot be read, so that nobody is let in")
                .advise("the agent's log says why; see web.token_file")
        })?;
        let given = token(headers).unwrap_or_default();
        // What is emptied while the agent runs lets nobody in, either.
        let is_right = bool::from(given.as_bytes().ct_eq(secret.reveal().as_bytes()));
        if is_right && given.len() >= SHORTEST_TOKEN {
            return Ok(());
        }
        let what = if given.is_empty() { "this needs the token" } else { "this is not the token" };
        Err(Failure::new(StatusCode::UNAUTHORIZED, what)
            .advise("it is in the file that web.token_file names"))
    }
}

fn no_orders() -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "this agent takes no orders over the web")
        .advise("set web.token_file and restart the agent, or use the command line")
}

/// The token that a request carries (RFC 6750 §2.1).
fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a request carries any token, right or wrong.
pub(super) fn has_token(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION)
}

/// Lets this host look, and others with the token.
pub(super) async fn may_look(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    if guard.is_private {
        return Ok(next.run(request).await);
    }
    may_order(State(guard), request, next).await
}

/// Lets those pass who have the token.
pub(super) async fn may_order(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    match guard.check(request.headers()).await {
        Ok(()) => Ok(next.run(request).await),
        Err(failure) => Err(challenge(failure)),
    }
}

/// A refusal that says what is needed (RFC 9110 §11.6.1).
fn challenge(failure: Failure) -> Response {
    let mut response = failure.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Refuses what is meant for another name, or comes from another origin: a page on the network can have its own name
/// resolved to this address, but can give itself neither an address nor `localhost` for a name.
pub(super) async fn is_addressed(request: Request, next: Next) -> Result<Response, Failure> {
    let host = authority(request.headers(), header::HOST, "");
    let Some(host) = host.filter(is_own) else {
        return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "this is not the name of this agent")
            .advise("ask by its address, or by localhost through a tunnel"));
    };
    if request.headers().contains_key(header::ORIGIN) {
        let origin = ["http://", "https://"]
            .into_iter()
            .find_map(|scheme| authority(request.headers(), header::ORIGIN, scheme));
        if origin.is_none_or(|origin| origin != host) {
            return Err(Failure::new(StatusCode::FORBIDDEN, "this comes from the page of another origin"));
        }
    }
    Ok(next.run(request).await)
}

/// The host and port that a header names, once only.
fn authority(headers: &HeaderMap, name: HeaderName, scheme: &str) -> Option<Authority> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()?.strip_prefix(scheme)?.parse().ok()
}

fn is_own(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Has browsers forbid what the page does not need.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HARDENING {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
