//! What was last measured of a backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bits of a number that no load is.
const NO_LOAD: u64 = f64::NAN.to_bits();

/// Shared between a task, which writes, and the prober.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    /// Nanoseconds; 0: none yet.
    latency: AtomicU64,
    /// The bits of a load.
    load: AtomicU64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { latency: AtomicU64::new(0), load: AtomicU64::new(NO_LOAD) }
    }
}

impl Measured {
    pub(super) fn set_latency(&self, latency: Duration) {
        self.0.latency.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        Some(self.0.latency.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    pub(super) fn set_load(&self, load: Option<f64>) {
        self.0.load.store(load.map_or(NO_LOAD, f64::to_bits), Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load.load(Ordering::Relaxed))).filter(|load| !load.is_nan())
    }
}
