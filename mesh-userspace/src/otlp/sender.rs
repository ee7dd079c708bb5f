//! The task that sends.
//!
//! Invariant: it holds one batch beside the queue, and tries that no more often than [`TRIES`] says.

use super::{
    Shared,
    record::{Record, text},
};
use crate::{
    config::Otlp,
    discovery::{Client, HttpError, Question, Secret, SourceError, secret_header},
};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use hyper::{StatusCode, header::AUTHORIZATION};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
        trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    },
    common::v1::InstrumentationScope,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::{DecodeError, Message as _};
use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

/// Records that are sent at once at most.
pub(super) const BATCH: usize = 512;

/// How long a record waits for others.
const PERIOD: Duration = Duration::from_secs(1);

/// How often a batch is tried again before it is given up, and how long the waits between are, before chance.
const TRIES: usize = 8;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// After so many failures in a row, somebody should know.
const FAILURES: u32 = 3;

/// What records are, by the path that they are sent to (OTLP/HTTP Request).
#[derive(Clone, Copy, Debug)]
enum Signal {
    Traces,
    Logs,
}

impl Signal {
    const fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
        }
    }

    /// Of those that were sent, how many the collector did not take, and why (OTLP/HTTP Partial Success).
    fn rejected(self, answer: &[u8]) -> Result<(i64, String), DecodeError> {
        let rejected = match self {
            Self::Traces => ExportTraceServiceResponse::decode(answer)?
                .partial_success
                .map(|partial| (partial.rejected_spans, partial.error_message)),
            Self::Logs => ExportLogsServiceResponse::decode(answer)?
                .partial_success
                .map(|partial| (partial.rejected_log_records, partial.error_message)),
        };
        Ok(rejected.unwrap_or_default())
    }
}

/// Encoded records of one kind.
struct Batch {
    signal: Signal,
    records: u64,
    body: Vec<u8>,
}

/// The task.
pub(super) struct Sender {
    config: Otlp,
    resource: Resource,
    queue: mpsc::Receiver<Record>,
    shared: Arc<Shared>,
    /// In a row.
    failures: u32,
}

impl Sender {
    pub(super) fn new(config: Otlp, queue: mpsc::Receiver<Record>, shared: Arc<Shared>) -> Self {
        Self { config, resource: resource(), queue, shared, failures: 0 }
    }

    /// Ends when nobody can queue anything any more, and all that was queued has been tried.
    pub(super) async fn run(mut self) {
        loop {
            let mut records = Vec::new();
            let ends = self.collect(&mut records).await;
            for batch in self.batches(records) {
                self.deliver(batch).await;
            }
            if ends {
                return;
            }
        }
    }

    /// Takes records out of the queue; whether there will be no more.
    async fn collect(&mut self, records: &mut Vec<Record>) -> bool {
        let deadline = Instant::now() + PERIOD;
        while let room @ 1.. = BATCH.saturating_sub(records.len()) {
            tokio::select! {
                received = self.queue.recv_many(records, room) => if received == 0 { return true },
                () = sleep_until(deadline) => return false,
            }
        }
        false
    }

    fn batches(&self, records: Vec<Record>) -> Vec<Batch> {
        let (mut spans, mut logs) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Span(span) => spans.push(*span),
                Record::Log(log) => logs.push(*log),
            }
        }
        let traces = (!spans.is_empty()).then(|| self.traces(spans));
        traces.into_iter().chain((!logs.is_empty()).then(|| self.logs(logs))).collect()
    }

    fn traces(&self, spans: Vec<Span>) -> Batch {
        let records = count(spans.len());
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let of_us = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![of_us] };
        Batch { signal: Signal::Traces, records, body: request.encode_to_vec() }
    }

    fn logs(&self, log_records: Vec<LogRecord>) -> Batch {
        let records = count(log_records.len());
        let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() }];
        let resource = Some(self.resource.clone());
        let of_us = ResourceLogs { resource, scope_logs, ..ResourceLogs::default() };
        let request = ExportLogsServiceRequest { resource_logs: vec![of_us] };
        Batch { signal: Signal::Logs, records, body: request.encode_to_vec() }
    }

    /// Sends a batch, or counts it as lost.
    async fn deliver(&mut self, batch: Batch) {
        let mut waits = waits();
        let stop = self.shared.stop.clone();
        loop {
            let failure = match self.post(&batch).await {
                Ok(rejected) => return self.note_success(&batch, rejected),
                Err(failure) => failure,
            };
            self.failures = self.failures.saturating_add(1);
            let is_passing = is_passing(&failure);
            if self.failures >= FAILURES || !is_passing {
                self.shared.fail(failure.to_string());
            }
            let wait = waits.next().filter(|_| is_passing && !stop.is_cancelled());
            let Some(wait) = wait else { return self.shared.lose(batch.records) };
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn note_success(&mut self, batch: &Batch, (rejected, reason): (i64, String)) {
        let rejected = u64::try_from(rejected).unwrap_or_default().min(batch.records);
        self.shared.sent.fetch_add(batch.records - rejected, Ordering::Relaxed);
        self.failures = 0;
        if rejected == 0 {
            return self.shared.succeed();
        }
        self.shared.lose(rejected);
        self.shared.fail(format!("it takes some of them only: {reason}"));
    }

    /// How many records were not taken, though the others were, and why.
    async fn post(&self, batch: &Batch) -> Result<(i64, String), SourceError> {
        let Batch { signal, body, .. } = batch;
        let mut question = Question::send(signal.path(), "application/x-protobuf", body.clone());
        if let Some(file) = &self.config.token_file {
            let token = Secret::read(file).await?;
            let bearer = secret_header(&format!("Bearer {}", token.reveal()));
            question = question.header(AUTHORIZATION, bearer);
        }
        let mut answer = Client::new(&self.config.access).ask(&question).await?;
        let said = answer.whole().await?;
        Ok(signal.rejected(&said).map_err(|error| answer.nonsense(&error))?)
    }
}

/// Whether the same may go well later (OTLP/HTTP Response, Retryable Response Codes).
fn is_passing(failure: &SourceError) -> bool {
    let SourceError::Http(failure) = failure else { return true };
    match failure {
        HttpError::Refused { status, .. } => [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ]
        .contains(status),
        HttpError::Nonsense { .. } => false,
        HttpError::Unreachable { .. }
        | HttpError::Tls { .. }
        | HttpError::Late { .. }
        | HttpError::Broken { .. } => true,
    }
}

fn waits() -> ExponentialBackoff {
    let waits = ExponentialBuilder::default().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
    waits.with_jitter().with_max_times(TRIES).build()
}

/// Who says all this (<https://opentelemetry.io/docs/specs/semconv/resource/>).
fn resource() -> Resource {
    let mut attributes =
        vec![text("service.name", "meshlb"), text("service.version", env!("CARGO_PKG_VERSION"))];
    // Every kernel has it, as long as there is a /proc.
    if let Ok(name) = fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(text("host.name", name.trim()));
    }
    Resource { attributes, ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "meshlb".to_owned(), version, ..InstrumentationScope::default() }
}

fn count(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
}
