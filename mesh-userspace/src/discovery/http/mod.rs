//! Asks registries over HTTP: the first endpoint that answers, each on a connection of its own.
//!
//! Invariants: whatever a registry does, a question ends within its time and an answer has a bound; what an error says
//! holds no secret, and equal failures say the same.

#[cfg(test)]
mod tests;

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::{Access, Endpoint, Tls};
use crate::http::{self, AGENT, Open, innermost, tls};

/// Larger answers are none that a registry of services gives: bytes.
const MOST_BYTES: usize = 32 << 20;

/// What is read of a refusal: bytes.
const REFUSAL_BYTES: usize = 4 << 10;

/// What is shown of a refusal: characters.
const SHOWN: usize = 200;

/// A peer that is silent for so long is asked by the kernel whether it is there, and again, until it is taken for gone:
/// answers that are waited for may take long, and the other side may have vanished meanwhile.
const SILENCE: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(5);
const TIMES: u32 = 3;

/// Asks one registry.
#[derive(Debug)]
pub(crate) struct Client<'a>(&'a Access);

/// What is asked for. It is not shown, for there may be secrets in it.
#[derive(Clone)]
pub(crate) struct Question {
    method: Method,
    /// Behind the endpoint's own path; begins with `/`.
    path: String,
    /// Behind the path; empty, or begins with `?`.
    query: String,
    headers: HeaderMap,
    body: Bytes,
    patience: Duration,
}

/// An answer whose body may not be there yet.
#[derive(Debug)]
pub(crate) struct Answer {
    request: String,
    response: Response<Incoming>,
    /// How long the rest of the body may take.
    timeout: Duration,
    /// What was received of the line to come.
    rest: Vec<u8>,
    /// How much of that has no line's end in it.
    searched: usize,
    _open: Open,
}

/// Why there is no answer, or none of use.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No connection.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// No TLS.
    #[error("TLS with {endpoint} failed: {reason}")]
    Tls {
        /// Who.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// Too late.
    #[error("{request} was not answered within {after:?}")]
    Late {
        /// What was asked for.
        request: String,
        /// How long it had.
        after: Duration,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{request} got no whole answer: {reason}")]
    Broken {
        /// What was asked for.
        request: String,
        /// What happened instead.
        reason: String,
    },
    /// Another status than 200.
    #[error("{request} returned status {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Refused {
        /// What was asked for.
        request: String,
        /// Why, as a number.
        status: StatusCode,
        /// Why, in the registry's words.
        said: String,
    },
    /// An answer that does not mean anything.
    #[error("{request} was answered with something else: {reason}")]
    Nonsense {
        /// What was asked for.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl HttpError {
    /// Whether another endpoint of the registry might answer.
    const fn is_of_the_endpoint(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Late { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => status.as_u16() >= 500,
            Self::Nonsense { .. } => false,
        }
    }
}

impl Question {
    /// For what is at a path.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: String::new(),
            headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]),
            body: Bytes::new(),
            patience: Duration::ZERO,
        }
    }

    /// With JSON, to a path.
    pub(super) fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self::send(path, "application/json", body.to_string())
    }

    /// With something of a media type, to a path.
    pub(crate) fn send(path: impl Into<String>, of: &'static str, body: impl Into<Bytes>) -> Self {
        let question = Self { method: Method::POST, body: body.into(), ..Self::get(path) };
        question.header(CONTENT_TYPE, HeaderValue::from_static(of))
    }

    /// With a key of the query.
    pub(super) fn query(mut self, key: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(key);
        self.query.push('=');
        self.query.push_str(&encoded(value));
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The answer may take so much longer.
    pub(super) const fn patiently(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// As people write it: without the query, which changes.
    fn shown(&self, endpoint: &Endpoint) -> String {
        format!("{} {endpoint}{}", self.method, self.path)
    }

    fn request(&self, endpoint: &Endpoint) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let uri = format!("{}{}{}", endpoint.base, self.path, self.query);
        let request = Request::builder().method(self.method.clone()).uri(uri);
        let mut request = request.body(Full::new(self.body.clone()))?;
        let host = HeaderValue::try_from(endpoint.authority())?;
        let own = [
            (HOST, host),
            (CONNECTION, HeaderValue::from_static("close")),
            (USER_AGENT, HeaderValue::from_static(AGENT)),
        ];
        request.headers_mut().extend(own);
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}

/// Text as a part of a path or a value of a query: all but what RFC 3986 § 2.3 calls unreserved is escaped.
pub(super) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl<'a> Client<'a> {
    pub(crate) const fn new(access: &'a Access) -> Self {
        Self(access)
    }

    /// The first answer of an endpoint, in their order; its status is 200.
    ///
    /// # Errors
    /// No endpoint answers, or one refuses for a reason that is not its own.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Answer, HttpError> {
        let mut outcome = self.ask_at(&self.0.endpoint, question).await;
        for other in &self.0.others {
            match &outcome {
                Err(error) if error.is_of_the_endpoint() => outcome = self.ask_at(other, question).await,
                Ok(_) | Err(_) => break,
            }
        }
        outcome
    }

    async fn ask_at(&self, endpoint: &Endpoint, question: &Question) -> Result<Answer, HttpError> {
        let begin = Instant::now();
        let unreachable = |reason: String| HttpError::Unreachable { endpoint: endpoint.to_string(), reason };
        let silent = || unreachable(format!("no connection within {:?}", self.0.timeout));
        let connected = timeout_at(begin + self.0.timeout, connect(endpoint)).await;
        let stream = connected.map_err(|_late| silent())?.map_err(|error| unreachable(error.to_string()))?;
        match (endpoint.is_secure, &self.0.tls) {
            (false, _) => self.exchange(stream, endpoint, question).await,
            // What is secret is never said in plain because something was forgotten.
            (true, None) => {
                Err(HttpError::Tls { endpoint: endpoint.to_string(), reason: "there is none".to_owned() })
            }
            (true, Some(tls)) => {
                let shaken = timeout_at(begin + self.0.timeout, shake(stream, tls, endpoint)).await;
                let stream = shaken.map_err(|_late| silent())??;
                Box::pin(self.exchange(stream, endpoint, question)).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, to: &Endpoint, question: &Question) -> Result<Answer, HttpError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let shown = question.shown(to);
        let broken = |reason: String| HttpError::Broken { request: shown.clone(), reason };
        let after = self.0.timeout + question.patience;
        let request = question.request(to).map_err(|error| broken(error.to_string()))?;
        let sent = timeout(after, http::send(stream, request)).await;
        let sent = sent.map_err(|_late| HttpError::Late { request: shown.clone(), after })?;
        let (response, open) = sent.map_err(|error| broken(innermost(&error).to_string()))?;
        let status = response.status();
        let (timeout, rest) = (self.0.timeout, Vec::new());
        let answer = Answer { request: shown, response, timeout, rest, searched: 0, _open: open };
        if status == StatusCode::OK { Ok(answer) } else { Err(answer.refusal().await) }
    }
}

/// A connection to one of the addresses of the host.
async fn connect(endpoint: &Endpoint) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(ASK_AGAIN).with_retries(TIMES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn shake(
    stream: TcpStream,
    tls: &Tls,
    endpoint: &Endpoint,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, HttpError> {
    let failed = |reason: String| HttpError::Tls { endpoint: endpoint.to_string(), reason };
    let peer = ServerName::try_from(endpoint.host.clone()).map_err(|error| failed(error.to_string()))?;
    tls::connect(stream, tls, peer).await.map_err(failed)
}

impl Answer {
    /// The value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The whole body, as JSON.
    ///
    /// # Errors
    /// It does not come whole in time, is too large, or is something else.
    pub(super) async fn json<T: DeserializeOwned>(mut self) -> Result<T, HttpError> {
        let body = self.whole().await?;
        serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))
    }

    /// The whole body.
    ///
    /// # Errors
    /// It does not come whole in time, or is too large.
    pub(crate) async fn whole(&mut self) -> Result<Vec<u8>, HttpError> {
        let after = self.timeout;
        let body = timeout(after, self.body(MOST_BYTES)).await;
        body.map_err(|_late| HttpError::Late { request: self.request.clone(), after })?
    }

    /// The next line of a body that has no end. Whoever does not wait for it finds it the next time.
    ///
    /// # Errors
    /// It has one, or the line is too long.
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, HttpError> {
        loop {
            let new = self.rest.get(self.searched..).unwrap_or_default();
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                let after = self.rest.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(std::mem::replace(&mut self.rest, after));
            }
            self.searched = self.rest.len();
            if self.rest.len() > MOST_BYTES {
                return Err(self.nonsense(&format!("a line has more than {MOST_BYTES} bytes")));
            }
            let Some(more) = self.more().await? else {
                return Err(HttpError::Broken {
                    request: self.request.clone(),
                    reason: "it ended".to_owned(),
                });
            };
            self.rest.extend_from_slice(&more);
        }
    }

    /// What was asked for, as people write it.
    pub(super) fn request(&self) -> &str {
        &self.request
    }

    /// The next bytes of the body; `None` at its end.
    async fn more(&mut self) -> Result<Option<Bytes>, HttpError> {
        let Some(frame) = self.response.frame().await else { return Ok(None) };
        let broken = |error: hyper::Error| HttpError::Broken {
            request: self.request.clone(),
            reason: innermost(&error).to_string(),
        };
        let frame = frame.map_err(broken)?;
        Ok(Some(frame.into_data().unwrap_or_default()))
    }

    async fn body(&mut self, most: usize) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        while let Some(bytes) = self.more().await? {
            body.extend_from_slice(&bytes);
            if body.len() > most {
                return Err(self.nonsense(&format!("it has more than {most} bytes")));
            }
        }
        Ok(body)
    }

    /// An answer that does not mean anything.
    pub(crate) fn nonsense(&self, reason: &impl ToString) -> HttpError {
        HttpError::Nonsense { request: self.request.clone(), reason: reason.to_string() }
    }

    /// What an answer with another status than 200 says, whatever there is to read of it.
    async fn refusal(mut self) -> HttpError {
        let (mut body, within) = (Vec::new(), self.timeout);
        let read = async {
            while let Ok(Some(bytes)) = self.more().await {
                body.extend_from_slice(&bytes);
                if body.len() > REFUSAL_BYTES {
                    break;
                }
            }
        };
        // What has come by then will do.
        let _ = timeout(within, read).await;
        let said = printable(&String::from_utf8_lossy(&body));
        HttpError::Refused { request: self.request, status: self.response.status(), said }
    }
}

/// The first line, as far as it is of use to anybody.
fn printable(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}
