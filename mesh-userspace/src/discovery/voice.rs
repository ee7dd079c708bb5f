//! What a source speaks with: what it says is published and stored.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::store::Store;
use super::{Report, Reports, Snapshot, SourceError, Word};

/// A snapshot that did not change is stored again after so long, so that its age is known after a restart.
const STORED: Duration = Duration::from_secs(60);

/// What a source speaks with.
///
/// Invariant: it speaks only while its source has a report, so that a task that was just stopped has not the last word.
#[derive(Debug)]
pub struct Voice<W = Snapshot> {
    source: String,
    tx: Arc<watch::Sender<Reports<W>>>,
    store: Store,
    stored: Option<Instant>,
    /// Whether it has spoken since it was last asked.
    spoke: bool,
}

impl<W: Word> Voice<W> {
    pub(super) const fn new(source: String, tx: Arc<watch::Sender<Reports<W>>>, store: Store) -> Self {
        Self { source, tx, store, stored: None, spoke: false }
    }

    /// Says who is there, all of them.
    pub(super) async fn say(&mut self, snapshot: W) {
        self.say_but(snapshot, None).await;
    }

    /// Says who is there, and what is left out, which is no instance.
    pub(super) async fn say_but(&mut self, snapshot: W, left_out: Option<String>) {
        let snapshot = Arc::new(snapshot);
        let is_new = self.publish(&snapshot, left_out);
        if is_new {
            info!(source = self.source, instances = snapshot.count(), "discovery has a new snapshot");
        }
        self.keep(is_new, &snapshot).await;
    }

    /// Says that it cannot say anything at present; what it said last stays.
    pub(super) fn fail(&mut self, error: &SourceError, retry_in: Duration) {
        let error = error.to_string();
        self.tx.send_if_modified(|reports| {
            let Some(report) = reports.get_mut(&self.source) else { return false };
            report.errors = report.errors.saturating_add(1);
            if report.error.as_ref() == Some(&error) {
                return false;
            }
            warn!(
                source = self.source,
                error,
                ?retry_in,
                "discovery lost its source, keeping the last snapshot"
            );
            report.error = Some(error);
            true
        });
    }

    /// Whether it has spoken since this was last asked.
    pub(super) const fn has_spoken(&mut self) -> bool {
        std::mem::replace(&mut self.spoke, false)
    }

    /// Whether the snapshot differs from the one before.
    fn publish(&mut self, snapshot: &Arc<W>, left_out: Option<String>) -> bool {
        self.spoke = true;
        let mut is_new = false;
        self.tx.send_if_modified(|reports| {
            let Some(report) = reports.get_mut(&self.source) else { return false };
            is_new = report.snapshot.as_ref() != Some(snapshot);
            if report.error.is_some() {
                info!(source = self.source, "discovery has its source again");
            }
            let is_news = is_new || !report.has_spoken || report.error.is_some();
            let (snapshot, confirmed) = (Some(Arc::clone(snapshot)), Some(SystemTime::now()));
            *report =
                Report { snapshot, left_out, confirmed, has_spoken: true, error: None, ..report.clone() };
            is_news
        });
        is_new
    }

    /// Stores the snapshot, if it is new or was not for a while.
    async fn keep(&mut self, is_new: bool, snapshot: &Arc<W>) {
        if !is_new && self.stored.is_some_and(|stored| stored.elapsed() < STORED) {
            return;
        }
        let (store, source, snapshot) = (self.store.clone(), self.source.clone(), Arc::clone(snapshot));
        let kept = spawn_blocking(move || store.keep(&source, SystemTime::now(), &*snapshot)).await;
        let unstored = match kept {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        self.stored = Some(Instant::now());
        self.tx.send_if_modified(|reports| {
            let Some(report) = reports.get_mut(&self.source) else { return false };
            if report.unstored != unstored {
                unstored
                    .iter()
                    .for_each(|error| warn!(source = self.source, error, "could not store a snapshot"));
            }
            report.unstored = unstored;
            false
        });
    }
}
