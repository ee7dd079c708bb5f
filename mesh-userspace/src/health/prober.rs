//! One task per probed backend, started and stopped by difference.
//!
//! Invariants: at most [`AT_ONCE`] probes are under way; dropping the prober ends every task; the channel is
//! written to only when there is news (a state, a failure's text, a key that came or went).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use super::task::{Shared, Task};
use super::{Client, Key, State, Verdict};
use crate::config::Health;

/// Probes under way at once: each has a socket, and a process has 1024 file descriptors unless told otherwise.
const AT_ONCE: usize = 512;

/// Probes backends and publishes what it finds.
#[derive(Debug)]
pub struct Prober {
    shared: Shared,
    running: BTreeMap<Key, Running>,
}

#[derive(Debug)]
struct Running {
    health: Health,
    latency: Latency,
    _task: AbortOnDropHandle<()>,
}

impl Prober {
    /// Probes nothing yet. Verdicts appear in `tx`, one for each wanted key.
    #[must_use]
    pub fn new(tx: watch::Sender<BTreeMap<Key, Verdict>>) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let shared = Shared { tx: Arc::new(tx), client: Client::new(), permits };
        Self { shared, running: BTreeMap::new() }
    }

    /// Probes exactly what is wanted. An unchanged entry keeps its task; a changed one is probed in the new way
    /// from now on and keeps its state until enough results speak against it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn update(&mut self, wanted: &BTreeMap<Key, Health>) {
        self.running.retain(|key, running| wanted.get(key) == Some(&running.health));
        self.publish_keys(wanted);
        for (key, health) in wanted {
            if !self.running.contains_key(key) {
                self.running.insert(*key, self.start(*key, health));
            }
        }
    }

    /// How long the last successful probe of each backend took. Reads one atomic number per backend.
    #[must_use]
    pub fn latencies(&self) -> BTreeMap<Key, Duration> {
        self.running.iter().filter_map(|(key, running)| Some((*key, running.latency.get()?))).collect()
    }

    fn publish_keys(&self, wanted: &BTreeMap<Key, Health>) {
        let now = SystemTime::now();
        self.shared.tx.send_if_modified(|verdicts| {
            if verdicts.keys().eq(wanted.keys()) {
                return false;
            }
            verdicts.retain(|key, _| wanted.contains_key(key));
            for key in wanted.keys() {
                verdicts.entry(*key).or_insert_with(|| Verdict::unknown(now));
            }
            true
        });
    }

    fn start(&self, key: Key, health: &Health) -> Running {
        let latency = Latency::default();
        let state = self.shared.tx.borrow().get(&key).map_or(State::Unknown, |verdict| verdict.state);
        let address = SocketAddr::new(key.address, health.port.unwrap_or(key.service.ports.first()));
        let task = Task::new(key, address, health.clone(), state, latency.clone());
        let task = tokio::spawn(task.run(self.shared.clone()));
        Running { health: health.clone(), latency, _task: AbortOnDropHandle::new(task) }
    }
}

/// Nanoseconds, shared between a task and the prober; 0: none yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Latency(Arc<AtomicU64>);

impl Latency {
    pub(super) fn set(&self, latency: Duration) {
        self.0.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}
