//! Sends a request over HTTP/1.1 and looks at status and body. Redirects are not followed, no connection is used twice.

use std::fmt::Write as _;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};

use super::super::load::parse_load;
use super::{Answer, Deadline, LoadError, ProbeError, Target, socket};
use crate::config::HttpProbe;
use crate::http::{self, AGENT, innermost};

/// Bytes of an answer's body that are read: to look for something, or so that the backend sees an orderly end.
const BODY_LIMIT: usize = 64 * 1024;

/// Characters of a header's value that errors show.
const SHOWN: usize = 40;

/// Bytes of the longest header of padding; servers have limits from 8 KiB on.
const LONGEST_HEADER: usize = 4000;
/// Bytes of all padding: more than a packet has where frames are long.
const LONGEST_PADDING: usize = 9216;

pub(super) async fn probe(
    probe: &HttpProbe,
    target: Target<'_>,
    deadline: Deadline,
) -> Result<Answer, ProbeError> {
    let stream = socket::opened(target, probe.tls.as_ref(), deadline).await?;
    let shown = || shown(probe, target);
    let bad = |reason: String| ProbeError::BadAnswer { request: shown(), reason };
    let request = request(probe, target).map_err(|error| ProbeError::Local { reason: error.to_string() })?;
    let asked = deadline.answer(shown, http::send(stream, request)).await?;
    let (response, _connection) = asked.map_err(|error| bad(innermost(&error).to_string()))?;
    let latency = deadline.elapsed();
    let load = probe.load_header.as_ref().map(|header| load(&response, header));
    let found = response.status().as_u16();
    // What the status says does not wait for a body that nobody asks for, but for the orderly end.
    let body = deadline.meet(body(response)).await;
    if !probe.expect.contain(found) {
        return Err(ProbeError::UnexpectedStatus { request: shown(), found, expected: probe.expect.clone() });
    }
    let Some(wanted) = &probe.answer else { return Ok(Answer { latency, load }) };
    let body = body.ok_or_else(|| ProbeError::NoAnswer { request: shown(), after: deadline.after })?;
    if wanted.is_in(&body) {
        return Ok(Answer { latency: deadline.elapsed(), load });
    }
    Err(ProbeError::WrongAnswer { request: shown(), wanted: wanted.to_string() })
}

/// What an answer says of the backend's load.
fn load(response: &Response<Incoming>, header: &str) -> Result<f64, LoadError> {
    let mut values = response.headers().get_all(header).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(LoadError::Missing { header: header.to_owned() }),
        (Some(value), None) => String::from_utf8_lossy(value.as_bytes()),
        (Some(_), Some(_)) => return Err(LoadError::Repeated { header: header.to_owned() }),
    };
    let shown = || value.chars().take(SHOWN).collect();
    parse_load(&value).ok_or_else(|| LoadError::NoNumber { header: header.to_owned(), value: shown() })
}

fn request(probe: &HttpProbe, target: Target<'_>) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let host = probe.host.clone().unwrap_or_else(|| authority(probe, target));
    let mut request = Request::builder()
        .method(probe.method.as_str())
        .uri(&probe.path)
        .header(HOST, host)
        .header(CONNECTION, "close");
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    if !probe.headers.iter().any(|(name, _)| name == USER_AGENT.as_str()) {
        request = request.header(USER_AGENT, AGENT);
    }
    for padding in padding(target) {
        request = request.header("x-padding", padding);
    }
    request.body(Empty::new())
}

/// Values of headers that together fill the longest packet of the path.
fn padding(target: Target<'_>) -> Vec<String> {
    let longest = target.path.map_or(0, |path| usize::from(path.longest()));
    let padding = "x".repeat(longest.min(LONGEST_PADDING));
    let headers = padding.as_bytes().chunks(LONGEST_HEADER);
    headers.map(|header| String::from_utf8_lossy(header).into_owned()).collect()
}

/// The beginning of a body, or all of it.
async fn body(mut response: Response<Incoming>) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(Ok(frame)) = response.frame().await {
        body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if body.len() > BODY_LIMIT {
            break;
        }
    }
    body
}

/// The address that is probed, without the usual port.
fn authority(probe: &HttpProbe, target: Target<'_>) -> String {
    let usual = if probe.tls.is_some() { 443 } else { 80 };
    match target.address {
        address if address.port() != usual => address.to_string(),
        std::net::SocketAddr::V4(address) => address.ip().to_string(),
        std::net::SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// The request as people write it.
fn shown(probe: &HttpProbe, target: Target<'_>) -> String {
    let scheme = if probe.tls.is_some() { "https" } else { "http" };
    let mut shown = format!("{} {scheme}://{}{}", probe.method, authority(probe, target), probe.path);
    if let Some(host) = &probe.host {
        // Writing to a string cannot fail.
        let _ = write!(shown, " for {host}");
    }
    shown
}
