//! Traces and logs for an OpenTelemetry collector: OTLP in protobuf over HTTP
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! Invariants: whoever has something to tell never waits for it to be sent; what finds no room in the queue, and what the
//! collector does not take, is counted.

mod record;
mod sender;
#[cfg(test)]
mod tests;

pub use record::{Log, Place, Record, Span, number, text};

use crate::config::Otlp;
use sender::Sender;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

/// Records that may wait: some megabytes.
const QUEUE: usize = 4096;

/// How long the end of the agent waits for the last records.
const FAREWELL: Duration = Duration::from_secs(2);

/// What became of records since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Spans and log records that the collector took.
    pub sent: u64,
    /// Those that it did not get.
    pub dropped: u64,
}

/// Sends to a collector, in a task of its own.
pub struct Exporter {
    records: mpsc::Sender<Record>,
    shared: Arc<Shared>,
    task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Shared {
    sent: AtomicU64,
    dropped: AtomicU64,
    /// Why records do not get there now.
    problem: Mutex<Option<String>>,
    /// What fails from now on is not tried again.
    stop: CancellationToken,
}

impl Exporter {
    /// Begins to send. Within a runtime.
    #[must_use]
    pub fn start(config: &Otlp) -> Self {
        let (records, queued) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let sender = Sender::new(config.clone(), queued, Arc::clone(&shared));
        Self { records, shared, task: AbortOnDropHandle::new(tokio::spawn(sender.run())) }
    }

    /// One whose records a test takes.
    #[cfg(test)]
    pub(crate) fn to_nobody() -> (Self, mpsc::Receiver<Record>) {
        let (records, queued) = mpsc::channel(QUEUE);
        let task = AbortOnDropHandle::new(tokio::spawn(async {}));
        (Self { records, shared: Arc::default(), task }, queued)
    }

    /// Queues a record, or counts it as lost.
    pub fn send(&self, record: impl Into<Record>) {
        if self.records.try_send(record.into()).is_err() {
            self.shared.lose(1);
        }
    }

    /// What became of records.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let Shared { sent, dropped, .. } = &*self.shared;
        Tally { sent: sent.load(Ordering::Relaxed), dropped: dropped.load(Ordering::Relaxed) }
    }

    /// What somebody should look at.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = self.shared.problem();
        let lost = self.shared.dropped.load(Ordering::Relaxed);
        let problem = problem.as_ref()?;
        Some(format!("traces and logs do not reach the collector, {lost} records are lost: {problem}"))
    }

    /// Sends what is queued, and ends. A collector that is slow is not waited for. Blocks its thread.
    pub fn finish(self) {
        let Self { records, shared, task } = self;
        drop(records);
        shared.stop.cancel();
        if Handle::current().block_on(async { timeout(FAREWELL, task).await }).is_err() {
            warn!(waited = ?FAREWELL, "ended without the last traces and logs");
        }
    }
}

impl Shared {
    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// Says once that records do not get there.
    fn fail(&self, reason: String) {
        let before = self.problem().replace(reason.clone());
        if before.is_none() {
            warn!(reason, "traces and logs do not reach the collector, trying again");
        }
    }

    /// Says once that they do again.
    fn succeed(&self) {
        if self.problem().take().is_some() {
            info!("traces and logs reach the collector again");
        }
    }
}
