//! One task per source, started and stopped by difference.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::store::Store;
use super::voice::Voice;
use super::{Report, Reports, task};
use crate::config::DiscoverySource;

/// Follows sources and publishes what they say.
#[derive(Debug)]
pub struct Sources {
    tx: Arc<watch::Sender<Reports>>,
    store: Store,
    running: BTreeMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    source: DiscoverySource,
    _task: AbortOnDropHandle<()>,
}

impl Sources {
    /// Follows nobody yet. Reports appear in `tx`, one for each wanted source; what they say is kept in the directory.
    #[must_use]
    pub fn new(tx: watch::Sender<Reports>, state_directory: &Path) -> Self {
        Self { tx: Arc::new(tx), store: Store::within(state_directory), running: BTreeMap::new() }
    }

    /// Follows exactly the wanted ones. One that is followed already is not disturbed, and keeps its last word if it is
    /// asked in another way from now on; a new one begins with what was stored of it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn update<'a>(&mut self, wanted: impl Iterator<Item = &'a DiscoverySource>) {
        let wanted: BTreeMap<String, &DiscoverySource> =
            wanted.map(|source| (source.to_string(), source)).collect();
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

    fn publish(&self, wanted: &BTreeMap<String, &DiscoverySource>) {
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

    fn recall(&self, name: &str) -> Report {
        match self.store.recall(name) {
            Ok(Some((snapshot, confirmed))) => {
                info!(source = name, instances = snapshot.instances().len(), "began with a stored snapshot");
                Report { snapshot: Some(snapshot.into()), confirmed: Some(confirmed), ..Report::default() }
            }
            Ok(None) => Report::default(),
            Err(error) => {
                warn!(source = name, %error, "could not read the stored snapshot, beginning with none");
                Report::default()
            }
        }
    }

    fn start(&self, name: String, source: DiscoverySource) -> Running {
        let voice = Voice::new(name, Arc::clone(&self.tx), self.store.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(task::run(source.clone(), voice)));
        Running { source, _task: task }
    }
}
