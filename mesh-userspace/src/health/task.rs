//! The life of one probed backend: probe, judge, publish, wait; or listen to its reports.
//!
//! Invariant: the next probe begins only after the last one has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::measured::Measured;
use super::turn::Run;
use super::{
    Answer, Key, LoadError, Machine, Path, Paths, ProbeError, Probed, Report, Rules, State, Target, Turn,
    Verdict, once,
};
use crate::config::{Health, ProbeKind, ProbeTo};
use crate::durations;

/// What all tasks use.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) tx: Arc<watch::Sender<BTreeMap<Key, Verdict>>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) paths: Paths,
}

/// One backend of one service.
#[derive(Debug)]
pub(super) struct Task {
    key: Key,
    health: Arc<Health>,
    machine: Machine,
    measured: Measured,
    /// How long the probes of the service take.
    durations: durations::Shared,
    reports: mpsc::Receiver<Report>,
    /// Why the last answer did not say the backend's load.
    load_error: Option<LoadError>,
    /// The failure of this host that was logged and told, until a probe ends.
    shortage: Option<ProbeError>,
    /// The last results in a row that speak against the state.
    run: Run,
    /// What led to the state.
    turn: Option<Arc<Turn>>,
}

/// A probe's or report's result, and since when it was waited for.
struct Outcome {
    begun: SystemTime,
    took: Duration,
    result: Result<Answer, ProbeError>,
}

impl Task {
    pub(super) fn new(
        key: Key,
        health: Arc<Health>,
        state: State,
        measured: Measured,
        durations: durations::Shared,
        reports: mpsc::Receiver<Report>,
    ) -> Self {
        let machine = Machine::resume(state, rules(&health));
        let (run, turn) = (Run::default(), None);
        Self {
            key,
            health,
            machine,
            measured,
            durations,
            reports,
            load_error: None,
            shortage: None,
            run,
            turn,
        }
    }

    pub(super) async fn run(self, shared: Shared) {
        match self.health.kind {
            ProbeKind::Heartbeat { ttl } => self.listen(shared, ttl).await,
            ProbeKind::Tcp
            | ProbeKind::Http(_)
            | ProbeKind::Grpc(_)
            | ProbeKind::Udp(_)
            | ProbeKind::Dns(_)
            | ProbeKind::Icmp
            | ProbeKind::Command(..) => self.ask(shared).await,
        }
    }

    async fn ask(mut self, shared: Shared) {
        let mut wait = first_wait as fn(Duration, u32) -> Duration;
        loop {
            let begin = Instant::now();
            let Some(outcome) = self.probe(&shared).await else { return };
            self.judge(&shared, outcome);
            let random = getrandom::u32().unwrap_or(u32::MAX / 2);
            sleep(wait(self.health.interval, random).saturating_sub(begin.elapsed())).await;
            wait = jittered;
        }
    }

    /// Probes once; `None`: everything ends.
    async fn probe(&self, shared: &Shared) -> Option<Outcome> {
        let Health { kind, interval, timeout, to, padded, .. } = &*self.health;
        let path = match to {
            ProbeTo::Address => None,
            ProbeTo::Vip => match shared.paths.to(self.key, *interval, *padded).await {
                Ok(path) => Some(path),
                Err(error) => {
                    let (begun, took) = (SystemTime::now(), Duration::ZERO);
                    return Some(Outcome { begun, took, result: Err(error) });
                }
            },
        };
        let target = target(self.key, &self.health, path.as_ref());
        // Waiting for a permit is no part of the probe: a busy prober must not make backends look slow.
        let _permit = shared.permits.acquire().await.ok()?;
        let (begun, begin) = (SystemTime::now(), Instant::now());
        let result = once(kind, target, *timeout).await;
        let took = begin.elapsed();
        let result = path.iter().fold(result, |result, path| path.judge(result));
        if !result.as_ref().is_err_and(ProbeError::is_local) {
            self.durations.observe(result.is_ok(), took);
        }
        Some(Outcome { begun, took, result })
    }

    async fn listen(mut self, shared: Shared, ttl: Duration) {
        loop {
            let (begun, begin) = (SystemTime::now(), Instant::now());
            let result = match timeout(ttl, self.reports.recv()).await {
                Ok(Some(Report::Well)) => Ok(Duration::ZERO.into()),
                Ok(Some(Report::Failing(reason))) => Err(ProbeError::Reported { reason }),
                Ok(None) => return,
                Err(_) => Err(ProbeError::Silent { ttl }),
            };
            self.judge(&shared, Outcome { begun, took: begin.elapsed(), result });
        }
    }

    fn judge(&mut self, shared: &Shared, outcome: Outcome) {
        let Outcome { begun, took, result } = outcome;
        let result = match result {
            Err(error) if error.is_local() => return self.fall_short(shared, &error),
            Ok(Answer { latency, load }) => {
                self.measured.set_latency(latency);
                if let Some(load) = load {
                    self.hear_load(load);
                }
                Ok(latency)
            }
            Err(error) => Err(error),
        };
        self.shortage = None;
        self.remember(begun, took, result.as_ref().err());
        if let Some(state) = self.machine.on_probe(Instant::now(), result) {
            self.turn = Some(Arc::new(self.run.take(self.health.kind.name())));
            self.log_change(state);
        }
        self.tell(shared);
    }

    /// Remembers a probe that speaks against the state, or else forgets those that did.
    fn remember(&mut self, begun: SystemTime, took: Duration, error: Option<&ProbeError>) {
        let found = if error.is_none() { State::Up } else { State::Down };
        if found == self.machine.state() {
            self.run.clear();
        } else {
            self.run.add(Probed { begun, took, error: error.map(ToString::to_string) });
        }
    }

    /// A load that is not said is not known any more.
    fn hear_load(&mut self, load: Result<f64, LoadError>) {
        self.measured.set_load(load.as_ref().ok().copied());
        match (load, &self.load_error) {
            (Ok(_), _) => self.load_error = None,
            (Err(error), Some(before)) if error.is_like(before) => {}
            (Err(error), _) => {
                let (service, backend) = (self.key.service, self.key.address);
                warn!(%service, %backend, %error, "a backend does not say its load");
                self.load_error = Some(error);
            }
        }
    }

    fn tell(&self, shared: &Shared) {
        shared.tx.send_if_modified(|verdicts| verdicts.get_mut(&self.key).is_some_and(|v| self.publish(v)));
    }

    /// Whether there is news. Compares with what is published, so that a task that was just stopped cannot have
    /// the last word.
    fn publish(&self, verdict: &mut Verdict) -> bool {
        let state = self.machine.state();
        let last_error = self.last_error(verdict);
        let (failing, damped) = (self.machine.failing(), self.machine.is_damped());
        let is_same_state = verdict.state == state;
        if is_same_state
            && (&verdict.last_error, verdict.failing, verdict.damped) == (&last_error, failing, damped)
            && verdict.load_error == self.load_error
        {
            return false;
        }
        let since = if is_same_state { verdict.since } else { SystemTime::now() };
        let risen = self.machine.risen().or(verdict.risen);
        let latency = self.machine.latency().filter(|latency| !latency.is_zero());
        let load_error = self.load_error.clone();
        let turn = self.turn.clone().or_else(|| verdict.turn.clone());
        *verdict = Verdict { state, since, last_error, latency, risen, failing, damped, load_error, turn };
        true
    }

    /// What this host lacks, or the backend. A resumed machine has no failure of its own yet: what was published stays
    /// until the backend is up.
    fn last_error(&self, verdict: &Verdict) -> Option<String> {
        if let Some(shortage) = &self.shortage {
            return Some(shortage.to_string());
        }
        let kept = if self.machine.state() == State::Up { None } else { verdict.last_error.clone() };
        self.machine.last_error().map(ToString::to_string).or(kept)
    }

    fn log_change(&self, state: State) {
        let (service, backend, probe) = (self.key.service, self.key.address, self.health.kind.name());
        match self.machine.last_error() {
            Some(error) if state == State::Down => {
                warn!(%service, %backend, %probe, %error, "backend went down");
            }
            Some(_) | None => {
                let latency = self.machine.latency();
                info!(%service, %backend, %probe, ?latency, "backend came up");
            }
        }
    }

    /// This host could not probe.
    fn fall_short(&mut self, shared: &Shared, error: &ProbeError) {
        if self.shortage.as_ref() != Some(error) {
            let (service, backend) = (self.key.service, self.key.address);
            warn!(%service, %backend, %error, "could not probe a backend, kept its state");
            self.shortage = Some(error.clone());
            self.tell(shared);
        }
    }
}

/// When states change: of reports, each counts.
fn rules(health: &Health) -> Rules {
    match health.kind {
        ProbeKind::Heartbeat { .. } => Rules { rise: 1, fall: 1, ..Rules::from(health) },
        ProbeKind::Tcp
        | ProbeKind::Http(_)
        | ProbeKind::Grpc(_)
        | ProbeKind::Udp(_)
        | ProbeKind::Dns(_)
        | ProbeKind::Icmp
        | ProbeKind::Command(..) => Rules::from(health),
    }
}

/// What is probed: the backend's own address or the VIP, on the port that is configured or the service's.
fn target<'a>(key: Key, health: &Health, path: Option<&'a Path>) -> Target<'a> {
    let ports = key.service.ports;
    let implied = if health.kind.needs_port() { Some(ports.first()) } else { ports.single() };
    let port = health.port.or(implied).unwrap_or(0);
    let address = path.map_or(key.address, |path| path.vip);
    Target { address: (address, port).into(), service: key.service, path }
}

/// Any part of the interval: backends that are probed for the first time at once are not so ever after.
fn first_wait(interval: Duration, random: u32) -> Duration {
    interval.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Between 90 % and 110 % of the interval, so that the probes of many backends spread.
fn jittered(interval: Duration, random: u32) -> Duration {
    let factor = 0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX);
    Duration::try_from_secs_f64(interval.as_secs_f64() * factor).unwrap_or(interval)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn jitter_stays_within_ten_per_cent(millis in 1..3_600_000_u64, random in any::<u32>()) {
            let interval = Duration::from_millis(millis);
            let jittered = jittered(interval, random).as_secs_f64() / interval.as_secs_f64();
            prop_assert!((0.899_999..=1.100_001).contains(&jittered));
            prop_assert!(first_wait(interval, random) <= interval);
        }
    }
}
