//! One probe: connect, or ask over HTTP, and say how long it took or why it failed.
//!
//! Invariant: a probe ends within its timeout, and leaves no connection behind.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::header::{CONNECTION, HOST};
use reqwest::{RequestBuilder, Response};
use tokio::net::TcpStream;

use super::{Client, ProbeError};

/// Bytes of an answer's body that are read so that the backend sees an orderly end.
const BODY_LIMIT: usize = 64 * 1024;

/// Opens a TCP connection and closes it. Returns how long opening took.
///
/// # Errors
/// The connection was not open within `timeout`.
pub async fn tcp(address: SocketAddr, timeout: Duration) -> Result<Duration, ProbeError> {
    let begin = Instant::now();
    let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(connected) => connected.map_err(|error| ProbeError::connect(address, timeout, &error))?,
        Err(_) => return Err(ProbeError::ConnectTimedOut { address, after: timeout }),
    };
    let latency = begin.elapsed();
    // A reset instead of the closing handshake: no port of this host waits a minute in TIME_WAIT for each probe.
    let _ = stream.set_zero_linger();
    Ok(latency)
}

/// What an HTTP probe asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where.
    pub address: SocketAddr,
    /// Begins with `/`.
    pub path: &'a str,
    /// The `Host` header, if not the address.
    pub host: Option<&'a str>,
    /// Statuses that are successes.
    pub expect: &'a [u16],
}

impl Request<'_> {
    fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }
}

/// Sends `GET path` on a connection of its own. Returns how long it took until the status was there.
///
/// # Errors
/// There was no HTTP answer within `timeout`, or its status is not an expected one; redirects are not followed.
pub async fn http(client: &Client, request: Request<'_>, timeout: Duration) -> Result<Duration, ProbeError> {
    let begin = Instant::now();
    let response = builder(client, request, timeout)?.send().await;
    let response = response.map_err(|error| failure(request, timeout, &error))?;
    let latency = begin.elapsed();
    let found = response.status().as_u16();
    read_body(response).await;
    if request.expect.contains(&found) {
        return Ok(latency);
    }
    Err(ProbeError::UnexpectedStatus { url: request.url(), found, expected: request.expect.to_vec() })
}

fn builder(client: &Client, request: Request<'_>, timeout: Duration) -> Result<RequestBuilder, ProbeError> {
    let builder = client.get(&request.url(), timeout).map_err(|reason| ProbeError::Local { reason })?;
    let builder = builder.header(CONNECTION, "close");
    Ok(match request.host {
        Some(host) => builder.header(HOST, host),
        None => builder,
    })
}

/// The verdict is in the status: whatever goes wrong here does not matter. Bounded by the request's timeout.
async fn read_body(mut response: Response) {
    let mut length = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        length += chunk.len();
        if length > BODY_LIMIT {
            return;
        }
    }
}

fn failure(request: Request<'_>, after: Duration, error: &reqwest::Error) -> ProbeError {
    let url = request.url();
    if error.is_builder() {
        return ProbeError::Local { reason: innermost(error).to_string() };
    }
    if error.is_timeout() {
        return ProbeError::AnswerTimedOut { url, after };
    }
    match io_error(error) {
        Some(io) if error.is_connect() => ProbeError::connect(request.address, after, io),
        Some(_) | None => ProbeError::NoHttp { url, reason: innermost(error).to_string() },
    }
}

fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| error.source().and_then(io_error))
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error.source().map_or(error, innermost)
}
