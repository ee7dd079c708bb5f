//! How long something took, many times: counts by length, in buckets that are the same everywhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where buckets end. Seconds, each a value that a length may have and still be in the bucket.
pub const BOUNDS: [f64; 15] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts of lengths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// One for each bound, and one for what is longer than all.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Counts a length.
    pub fn observe(&mut self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        self.counts.iter_mut().skip(bucket).take(1).for_each(|count| *count += 1);
        self.sum = self.sum.saturating_add(took);
    }

    /// How often something was counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All lengths together. Seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// The bound of each bucket and what is in it alone; the last has no end.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.iter().copied().chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

/// Lengths of what ends well and of what fails.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// Of what ended well.
    pub ok: Durations,
    /// Of what failed.
    pub failed: Durations,
}

impl Outcomes {
    /// Counts a length.
    pub fn observe(&mut self, is_ok: bool, took: Duration) {
        if is_ok { &mut self.ok } else { &mut self.failed }.observe(took);
    }
}

/// The same, counted by several tasks.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Outcomes>>);

impl Shared {
    /// Counts a length.
    pub fn observe(&self, is_ok: bool, took: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).observe(is_ok, took);
    }

    /// What was counted by now.
    #[must_use]
    pub fn read(&self) -> Outcomes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_in_the_first_bucket_that_holds_it() {
        for (micros, bucket) in [(0, 0), (100, 0), (101, 1), (10_000_000, 14), (10_000_001, 15)] {
            let mut durations = Durations::default();
            durations.observe(Duration::from_micros(micros));
            let filled: Vec<_> =
                (0..).zip(durations.buckets()).filter(|(_, (_, count))| *count > 0).collect();
            assert_eq!(
                filled.iter().map(|(at, (_, count))| (*at, *count)).collect::<Vec<_>>(),
                [(bucket, 1)]
            );
            assert_eq!(durations.count(), 1);
        }
    }

    #[test]
    fn what_fails_is_counted_apart() {
        let shared = Shared::default();
        shared.clone().observe(true, Duration::from_secs(1));
        shared.observe(false, Duration::from_secs(2));
        shared.observe(false, Duration::from_secs(3));
        let Outcomes { ok, failed } = shared.read();
        assert_eq!((ok.count(), failed.count()), (1, 2));
        assert!((failed.seconds() - 5.0).abs() < 1e-9 && (ok.seconds() - 1.0).abs() < 1e-9);
    }
}
