//! The life of one probed backend: probe, judge, publish, wait.
//!
//! Invariant: the next probe begins only after the last one has ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::prober::Latency;
use super::{Client, Key, Machine, ProbeError, State, Verdict, probe};
use crate::config::{Health, ProbeKind};

/// What all tasks use.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) tx: Arc<watch::Sender<BTreeMap<Key, Verdict>>>,
    pub(super) client: Client,
    pub(super) permits: Arc<Semaphore>,
}

/// One backend of one service.
#[derive(Debug)]
pub(super) struct Task {
    key: Key,
    address: SocketAddr,
    health: Health,
    machine: Machine,
    latency: Latency,
    /// The last failure of this host that was logged.
    shortage: Option<ProbeError>,
}

impl Task {
    pub(super) const fn new(
        key: Key,
        address: SocketAddr,
        health: Health,
        state: State,
        latency: Latency,
    ) -> Self {
        let machine = Machine::resume(state, health.rise, health.fall);
        Self { key, address, health, machine, latency, shortage: None }
    }

    pub(super) async fn run(mut self, shared: Shared) {
        loop {
            // Waiting for a permit is no part of the probe: a busy prober must not make backends look slow.
            let Ok(permit) = shared.permits.acquire().await else { return };
            let begin = Instant::now();
            let result = self.probe(&shared.client).await;
            drop(permit);
            self.judge(&shared, result);
            let random = getrandom::u32().unwrap_or(u32::MAX / 2);
            sleep(jittered(self.health.interval, random).saturating_sub(begin.elapsed())).await;
        }
    }

    async fn probe(&self, client: &Client) -> Result<Duration, ProbeError> {
        let (address, timeout) = (self.address, self.health.timeout);
        match &self.health.kind {
            ProbeKind::Tcp => probe::tcp(address, timeout).await,
            ProbeKind::Http { path, host, expect } => {
                let request = probe::Request { address, path, host: host.as_deref(), expect };
                probe::http(client, request, timeout).await
            }
        }
    }

    fn judge(&mut self, shared: &Shared, result: Result<Duration, ProbeError>) {
        match &result {
            Err(error) if error.is_local() => return self.log_shortage(error),
            Ok(latency) => self.latency.set(*latency),
            Err(_) => {}
        }
        self.shortage = None;
        if let Some(state) = self.machine.on_probe(Instant::now(), result) {
            self.log_change(state);
        }
        shared.tx.send_if_modified(|verdicts| verdicts.get_mut(&self.key).is_some_and(|v| self.publish(v)));
    }

    /// Whether there is news. Compares with what is published, so that a task that was just stopped cannot have
    /// the last word.
    fn publish(&self, verdict: &mut Verdict) -> bool {
        let state = self.machine.state();
        let last_error = self.last_error(verdict);
        if verdict.state == state && verdict.last_error == last_error {
            return false;
        }
        let since = if verdict.state == state { verdict.since } else { SystemTime::now() };
        *verdict = Verdict { state, since, last_error, latency: self.machine.latency() };
        true
    }

    /// A resumed machine has no failure of its own yet: what was published stays until the backend is up.
    fn last_error(&self, verdict: &Verdict) -> Option<String> {
        let kept = if self.machine.state() == State::Up { None } else { verdict.last_error.clone() };
        self.machine.last_error().map(ToString::to_string).or(kept)
    }

    fn log_change(&self, state: State) {
        let (service, backend, probe) = (self.key.service, self.key.address, self.health.kind.as_str());
        match self.machine.last_error() {
            Some(error) if state == State::Down => {
                warn!(%service, %backend, probe, %error, "backend went down");
            }
            Some(_) | None => {
                let latency = self.machine.latency();
                info!(%service, %backend, probe, ?latency, "backend came up");
            }
        }
    }

    fn log_shortage(&mut self, error: &ProbeError) {
        if self.shortage.as_ref() != Some(error) {
            let (service, backend) = (self.key.service, self.key.address);
            warn!(%service, %backend, %error, "could not probe a backend, kept its state");
            self.shortage = Some(error.clone());
        }
    }
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
        }
    }
}
