//! One probe: ask, and say how long the answer took or why there was none.
//!
//! Invariant: a probe ends within its timeout, and leaves no connection, no process and no task behind.

mod command;
mod dns;
mod grpc;
mod http;
mod icmp;
mod socket;
mod tcp;
mod udp;

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{LoadError, Path, ProbeError};
use crate::config::{ProbeKind, ServiceKey};

/// What is probed.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Where, port 0 if the probe needs none.
    pub address: SocketAddr,
    /// For whom.
    pub service: ServiceKey,
    /// The path to the VIP; `None`: the kernel's own to the address.
    pub path: Option<&'a Path>,
}

/// What a probe that succeeded has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// How long it took.
    pub latency: Duration,
    /// What the backend says of its load, if it was asked.
    pub load: Option<Result<f64, LoadError>>,
}

impl From<Duration> for Answer {
    fn from(latency: Duration) -> Self {
        Self { latency, load: None }
    }
}

/// Probes once, and answers what was found. Heartbeats are no probes: nothing is asked.
///
/// # Errors
/// The backend has not answered as it should, or this host could not ask.
pub async fn once(kind: &ProbeKind, target: Target<'_>, timeout: Duration) -> Result<Answer, ProbeError> {
    let deadline = Deadline::new(timeout);
    let latency = match kind {
        ProbeKind::Tcp => tcp::probe(target, deadline).await,
        // With TLS these take tens of kilobytes, which the tasks of backends without it should not carry.
        ProbeKind::Http(probe) => return Box::pin(http::probe(probe, target, deadline)).await,
        ProbeKind::Grpc(probe) => Box::pin(grpc::probe(probe, target, deadline)).await,
        ProbeKind::Udp(probe) => udp::probe(probe, target, deadline).await,
        ProbeKind::Dns(probe) => dns::probe(probe, target, deadline).await,
        ProbeKind::Icmp => icmp::probe(target, deadline).await,
        ProbeKind::Command(program, arguments) => command::probe(program, arguments, target, deadline).await,
        ProbeKind::Heartbeat { ttl } => Err(ProbeError::Silent { ttl: *ttl }),
    };
    latency.map(Answer::from)
}

/// When a probe has to be over.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    begin: Instant,
    after: Duration,
}

impl Deadline {
    fn new(after: Duration) -> Self {
        Self { begin: Instant::now(), after }
    }

    /// Since the begin.
    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// What a future answers, if in time.
    async fn meet<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at((self.begin + self.after).into(), future).await.ok()
    }

    /// The same, as an answer to a request.
    async fn answer<T>(
        &self,
        request: impl Fn() -> String,
        future: impl Future<Output = T>,
    ) -> Result<T, ProbeError> {
        let late = || ProbeError::NoAnswer { request: request(), after: self.after };
        self.meet(future).await.ok_or_else(late)
    }
}
