//! One task per source, started and stopped by difference.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::store::Store;
use super::voice::Voice;
use super::word::{Follow, Word as _};
use super::{Report, Reports, task};
use crate::config::DiscoverySource;

/// Follows sources and publishes what they say.
#[derive(Debug)]
pub struct Sources<S: Follow = DiscoverySource> {
    tx: Arc<watch::Sender<Reports<S::Word>>>,
    store: Store,
    running: BTreeMap<String, Running<S>>,
}

/// A source that is followed, and its task.
#[derive(Debug)]
struct Running<S> {
    source: S,
    _task: AbortOnDropHandle<()>,
}

impl<S: Follow> Sources<S> {
    /// Follows nobody yet. Reports appear in `tx`, one for each wanted source; what they say is kept in the directory.
    #[must_use]
    pub fn new(tx: watch::Sender<Reports<S::Word>>, state_directory: &Path) -> Self {
        let store = Store::within(state_directory, S::DIRECTORY);
        Self { tx: Arc::new(tx), store, running: BTreeMap::new() }
    }

    /// Follows exactly the wanted ones. One that is followed already is not disturbed, and keeps its last word if it is
    /// asked in another way from now on; a new one begins with what was stored of it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn update<'a>(&mut self, wanted: impl Iterator<Item = &'a S>) {
        let wanted: BTreeMap<String, &S> = wanted.map(|source| (source.to_string(), source)).collect();
        self.running.retain(|name, running| wanted.get(name) == Some(&&running.source));
        self.publish(&wanted);
        if let Err(error) = self.store.keep_only(wanted.keys()) {
            warn!(%error, "could not forget a snapshot");
        }
        for (name, source) in wanted {
            if !self.running.contains_key(&name) {
                let running = self.start(name.clone(), source.clone());
                self.running.insert(name, running);
            }
        }
    }

    fn publish(&self, wanted: &BTreeMap<String, &S>) {
        self.tx.send_if_modified(|reports| {
            if reports.keys().eq(wanted.keys()) {
                return false;
            }
            reports.retain(|name, _| wanted.contains_key(name));
            for name in wanted.keys() {
                reports.entry(name.clone()).or_insert_with(|| self.recall(name));
            }
            true
        });
    }

    fn recall(&self, name: &str) -> Report<S::Word> {
        match self.store.recall::<S::Word>(name) {
            Ok(Some((snapshot, confirmed))) => {
                info!(source = name, instances = snapshot.count(), "began with a stored snapshot");
                Report { snapshot: Some(snapshot.into()), confirmed: Some(confirmed), ..Report::default() }
            }
            Ok(None) => Report::default(),
            Err(error) => {
                warn!(source = name, %error, "could not read the stored snapshot, beginning with none");
                Report::default()
            }
        }
    }

    fn start(&self, name: String, source: S) -> Running<S> {
        let voice = Voice::new(name, Arc::clone(&self.tx), self.store.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(task::run(source.clone(), voice)));
        Running { source, _task: task }
    }
}
