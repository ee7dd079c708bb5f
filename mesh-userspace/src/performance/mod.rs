//! Shares that follow how backends do: from latencies and loads to a part of each backend's weight. Pure; time is an
//! argument.
//!
//! Each backend has a **factor**, by which its weight is multiplied. Where it should be follows from a smoothed
//! latency (peak-sensitive: a slow answer counts at once, quick ones win it back slowly) and the last load. It goes there
//! in steps of at least a hundredth of the service's slots, so that noise moves nothing, and no more of them in a minute than
//! are configured.
//!
//! Invariants: a factor is between the floor and 1; without measurements it stays what it is; who does as well as the
//! others goes to 1.

mod average;
mod budget;
#[cfg(test)]
mod tests;

use crate::{
    config::{Performance, ServiceKey},
    health,
};
use average::Average;
use budget::Budget;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How much slower than the median may be for nothing: part of the latency.
const LENIENCY: f64 = 0.2;

/// Differences of less than this say nothing about a backend: seconds.
const NOISE: f64 = 0.001;

/// What was measured of a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Its share, were there no measurements.
    pub weight: u16,
    /// How long its last probe took; `None` if none has succeeded or it is out of use.
    pub latency: Option<Duration>,
    /// Its load: 0 idle, 1 all that it can do.
    pub load: Option<f64>,
}

/// How far the shares of all backends follow what was measured.
#[derive(Clone, Debug, Default)]
pub struct Factors {
    services: BTreeMap<ServiceKey, Service>,
}

#[derive(Clone, Debug)]
struct Service {
    backends: BTreeMap<IpAddr, Backend>,
    budget: Budget,
}

#[derive(Clone, Debug)]
struct Backend {
    latency: Average,
    factor: f64,
    reason: String,
}

impl Factors {
    /// Which part of its weight a backend has, and why; none where nothing is followed.
    #[must_use]
    pub fn of(&self, key: &health::Key) -> Option<(f64, &str)> {
        let backend = self.services.get(&key.service)?.backends.get(&key.address)?;
        Some((backend.factor, &backend.reason))
    }

    /// A weight as far as measurements leave it; never nothing.
    #[must_use]
    pub fn apply(&self, key: &health::Key, weight: u16) -> u16 {
        let Some((factor, _)) = self.of(key).filter(|_| weight > 0) else { return weight };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1 times 16 bits")]
        let part = (f64::from(weight) * factor).round() as u16;
        part.clamp(1, weight)
    }

    /// Forgets services that follow nothing any more.
    pub fn keep(&mut self, is_meant: impl Fn(&ServiceKey) -> bool) {
        self.services.retain(|key, _| is_meant(key));
    }

    /// Learns what was measured of all backends of a service, and answers whether a factor has changed.
    pub fn learn(
        &mut self,
        service: ServiceKey,
        performance: Performance,
        measured: &BTreeMap<IpAddr, Measured>,
        now: Instant,
    ) -> bool {
        let budget = || Service { backends: BTreeMap::new(), budget: Budget::new(now) };
        let service = self.services.entry(service).or_insert_with(budget);
        service.backends.retain(|address, _| measured.contains_key(address));
        for (address, measured) in measured {
            let new = || Backend { latency: Average::new(), factor: 1.0, reason: String::new() };
            let backend = service.backends.entry(*address).or_insert_with(new);
            if let Some(latency) = measured.latency {
                backend.latency.learn(latency, now);
            }
        }
        service.go(performance, measured, now)
    }
}

impl Service {
    /// Goes as far towards the targets as the budget reaches.
    fn go(&mut self, performance: Performance, measured: &BTreeMap<IpAddr, Measured>, now: Instant) -> bool {
        let targets = self.targets(performance, measured);
        let weights = |factor: &dyn Fn(&IpAddr, &Backend) -> f64| -> Vec<f64> {
            let weight = |address: &IpAddr| measured.get(address).map_or(0.0, |it| f64::from(it.weight));
            self.backends.iter().map(|(address, it)| weight(address) * factor(address, it)).collect()
        };
        let is = weights(&|_, backend| backend.factor);
        let wanted = weights(&|address, backend| target(&targets, address, backend).0);
        let part = self.budget.spend(&is, &wanted, performance.moved, now);
        if part == 0.0 {
            return false;
        }
        for (address, backend) in &mut self.backends {
            let (to, reason) = target(&targets, address, backend);
            backend.factor += part * (to - backend.factor);
            backend.reason = reason;
        }
        true
    }

    /// Where the factors of those should be of whom something is known, and why.
    fn targets(
        &self,
        performance: Performance,
        measured: &BTreeMap<IpAddr, Measured>,
    ) -> BTreeMap<IpAddr, (f64, String)> {
        let floor = f64::from(performance.floor) / 100.0;
        let counted = |address: &IpAddr| measured.get(address).filter(|measured| measured.weight > 0);
        let counted: Vec<_> =
            self.backends.iter().filter_map(|(at, backend)| Some((at, backend, counted(at)?))).collect();
        let mut latencies: Vec<f64> = counted.iter().filter_map(|(_, it, _)| it.latency.seconds()).collect();
        let median = median(&mut latencies);
        let idlest = counted.iter().filter_map(|(.., it)| it.load).fold(1.0, f64::min);
        let target = |(address, backend, measured): &(&IpAddr, &Backend, &Measured)| {
            let by_latency = backend.latency.seconds().filter(|_| performance.by.counts_latency());
            let by_load = measured.load.filter(|_| performance.by.counts_load());
            let by_latency = by_latency.map(|latency| of_latency(latency, median));
            let by_load = by_load.map(|load| of_load(load, idlest));
            let least = by_latency.into_iter().chain(by_load).min_by(|a, b| a.0.total_cmp(&b.0))?;
            Some((**address, (least.0.clamp(floor, 1.0), least.1)))
        };
        counted.iter().filter_map(target).collect()
    }
}

/// The target of a backend; of whom nothing is known, where it is.
fn target(targets: &BTreeMap<IpAddr, (f64, String)>, address: &IpAddr, backend: &Backend) -> (f64, String) {
    targets.get(address).cloned().unwrap_or_else(|| (backend.factor, backend.reason.clone()))
}

/// In proportion to how much slower than the median it is, with leniency.
fn of_latency(latency: f64, median: f64) -> (f64, String) {
    let ratio = (median + NOISE) / (latency + NOISE);
    let millis = |seconds: f64| format!("{:.1} ms", seconds * 1000.0);
    let reason = format!("answers in {}, half of the others in {}", millis(latency), millis(median));
    (ratio / (1.0 - LENIENCY), reason)
}

/// In proportion to what it could still do, against the idlest.
fn of_load(load: f64, idlest: f64) -> (f64, String) {
    let free = |load: f64| (1.0 - load).max(0.0);
    let part = if free(idlest) > 0.0 { free(load) / free(idlest) } else { 1.0 };
    (part, format!("says that its load is {load:.2}, the least is {idlest:.2}"))
}

/// The value in the middle, the lower of two; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}
