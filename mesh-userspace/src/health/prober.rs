//! One task per probed backend, started and stopped by difference.
//!
//! Invariants: no more probes are under way than may be; dropping the prober ends every task; the channel is
//! written to only when there is news (a state, a failure's text, a key that came or went).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::measured::Measured;
use super::task::{Shared, Task};
use super::{Key, NotAwaited, Paths, Report, State, Verdict};
use crate::config::{Health, ProbeKind, ServiceKey};
use crate::durations;

/// Reports of a backend that may wait for its task; those beyond are late news.
const REPORTS: usize = 16;

/// Probes backends and publishes what it finds.
#[derive(Debug)]
pub struct Prober {
    shared: Shared,
    running: BTreeMap<Key, Running>,
    /// How long the probes of each service take.
    durations: BTreeMap<ServiceKey, durations::Shared>,
    /// Whether anything has been wanted yet: what comes later is new.
    has_begun: bool,
}

#[derive(Debug)]
struct Running {
    health: Arc<Health>,
    measured: Measured,
    reports: mpsc::Sender<Report>,
    _task: AbortOnDropHandle<()>,
}

impl Prober {
    /// Probes nothing yet, and later no more than `at_once` backends at a time, VIPs by their `paths`. Verdicts appear
    /// in `tx`, one for each wanted key.
    #[must_use]
    pub fn new(tx: watch::Sender<BTreeMap<Key, Verdict>>, at_once: usize, paths: Paths) -> Self {
        let permits = Arc::new(Semaphore::new(at_once));
        let shared = Shared { tx: Arc::new(tx), permits, paths };
        Self { shared, running: BTreeMap::new(), durations: BTreeMap::new(), has_begun: false }
    }

    /// Probes exactly what is wanted. An unchanged entry keeps its task; a changed one is probed in the new way
    /// from now on and keeps its state until enough results speak against it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn update(&mut self, wanted: &BTreeMap<Key, Arc<Health>>) {
        self.running.retain(|key, running| wanted.get(key) == Some(&running.health));
        let services: BTreeSet<ServiceKey> = wanted.keys().map(|key| key.service).collect();
        self.durations.retain(|service, _| services.contains(service));
        self.publish_keys(wanted);
        for (key, health) in wanted {
            if !self.running.contains_key(key) {
                let durations = self.durations.entry(key.service).or_default().clone();
                self.running.insert(*key, self.start(*key, health, durations));
            }
        }
        self.has_begun = true;
    }

    /// Takes what a backend reports of itself, and its load if it says that.
    ///
    /// # Errors
    /// Nobody asks for reports of this backend.
    pub fn report(&self, key: &Key, report: Report, load: Option<f64>) -> Result<(), NotAwaited> {
        let listens = |running: &&Running| matches!(running.health.kind, ProbeKind::Heartbeat { .. });
        let running = self.running.get(key).filter(listens).ok_or(NotAwaited)?;
        if load.is_some() {
            running.measured.set_load(load);
        }
        // As many wait as say the same.
        let _ = running.reports.try_send(report);
        Ok(())
    }

    /// How long the last successful probe of each backend took. Reads one atomic number per backend.
    #[must_use]
    pub fn latencies(&self) -> BTreeMap<Key, Duration> {
        self.running.iter().filter_map(|(key, running)| Some((*key, running.measured.latency()?))).collect()
    }

    /// How long the probes of each service took since it is probed, this host's own failures and heartbeats left out.
    #[must_use]
    pub fn durations(&self) -> BTreeMap<ServiceKey, durations::Outcomes> {
        self.durations.iter().map(|(service, durations)| (*service, durations.read())).collect()
    }

    /// What backends last said of their load, if that was a load.
    #[must_use]
    pub fn loads(&self) -> BTreeMap<Key, f64> {
        self.running.iter().filter_map(|(key, running)| Some((*key, running.measured.load()?))).collect()
    }

    fn publish_keys(&self, wanted: &BTreeMap<Key, Arc<Health>>) {
        let now = SystemTime::now();
        let risen = self.has_begun.then(Instant::now);
        self.shared.tx.send_if_modified(|verdicts| {
            if verdicts.keys().eq(wanted.keys()) {
                return false;
            }
            verdicts.retain(|key, _| wanted.contains_key(key));
            for key in wanted.keys() {
                let new = Verdict { risen, ..Verdict::unknown(now) };
                verdicts.entry(*key).or_insert(new);
            }
            true
        });
    }

    fn start(&self, key: Key, health: &Arc<Health>, durations: durations::Shared) -> Running {
        let measured = Measured::default();
        let state = self.shared.tx.borrow().get(&key).map_or(State::Unknown, |verdict| verdict.state);
        let (reports, reported) = mpsc::channel(REPORTS);
        let health = Arc::clone(health);
        let task = Task::new(key, Arc::clone(&health), state, measured.clone(), durations, reported);
        let task = tokio::spawn(task.run(self.shared.clone()));
        Running { health, measured, reports, _task: AbortOnDropHandle::new(task) }
    }
}
