//! Asks a gRPC server for its health, by the standard protocol (`grpc.health.v1.Health/Check`).

use std::time::Duration;

use hyper::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Deadline, ProbeError, Target, socket};
use crate::config::GrpcProbe;
use crate::http::innermost;

/// More than the answer takes, which is a number: bytes.
const LONGEST_ANSWER: usize = 1024;

pub(super) async fn probe(
    probe: &GrpcProbe,
    target: Target<'_>,
    deadline: Deadline,
) -> Result<Duration, ProbeError> {
    let stream = socket::opened(target, probe.tls.as_ref(), deadline).await?;
    let shown = || shown(probe, target);
    let bad = |reason: String| ProbeError::BadAnswer { request: shown(), reason };
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) =
        deadline.answer(shown, handshake).await?.map_err(|error| bad(innermost(&error).to_string()))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut client = client(probe, target, sender)?;
    let request = HealthCheckRequest { service: probe.service.clone() };
    let answered = deadline.answer(shown, client.check(request)).await?;
    let answer = answered.map_err(|status| refusal(probe, &status, shown()))?;
    let status = answer.into_inner().status();
    if status == ServingStatus::Serving {
        return Ok(deadline.elapsed());
    }
    Err(ProbeError::NotServing { request: shown(), answer: status.as_str_name().to_owned() })
}

/// A connection as tonic uses it.
trait Connection: tonic::client::GrpcService<Body, ResponseBody = Incoming, Future: Send> + Send {}

impl<T> Connection for T where
    T: tonic::client::GrpcService<Body, ResponseBody = Incoming, Future: Send> + Send
{
}

/// A client on one connection, which it does not open again.
fn client(
    probe: &GrpcProbe,
    target: Target<'_>,
    sender: SendRequest<Body>,
) -> Result<HealthClient<impl Connection>, ProbeError> {
    let scheme = if probe.tls.is_some() { "https" } else { "http" };
    let host = probe.host.clone().unwrap_or_else(|| target.address.to_string());
    let origin = Uri::builder().scheme(scheme).authority(host).path_and_query("/").build();
    let origin = origin.map_err(|error| ProbeError::Local { reason: error.to_string() })?;
    let service = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    Ok(HealthClient::with_origin(service, origin).max_decoding_message_size(LONGEST_ANSWER))
}

/// What a status other than OK means.
fn refusal(probe: &GrpcProbe, status: &Status, request: String) -> ProbeError {
    let code = status.code();
    let answer = if code == Code::NotFound {
        format!("it knows no health of a service {:?}", probe.service)
    } else if code == Code::Unimplemented {
        "it does not implement grpc.health.v1".to_owned()
    } else if std::error::Error::source(status).is_none() {
        format!("{code:?}: {}", status.message())
    } else {
        return ProbeError::BadAnswer { request, reason: innermost(status).to_string() };
    };
    ProbeError::NotServing { request, answer }
}

fn shown(probe: &GrpcProbe, target: Target<'_>) -> String {
    let of = if probe.service.is_empty() { String::new() } else { format!(" of {}", probe.service) };
    format!("the gRPC health check{of} at {}", target.address)
}
