//! A peak-sensitive moving average.

use std::time::{Duration, Instant};

/// After this time quick answers have won back all but a third of what a slow one cost.
const MEMORY: Duration = Duration::from_secs(10);

/// Rises at once to what is larger, and falls towards what is smaller exponentially with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Average {
    /// Seconds, and when they were learnt.
    last: Option<(f64, Instant)>,
}

impl Average {
    pub(super) const fn new() -> Self {
        Self { last: None }
    }

    pub(super) fn learn(&mut self, value: Duration, now: Instant) {
        let value = value.as_secs_f64();
        let average = match self.last {
            Some((average, since)) if value < average => {
                let passed = now.saturating_duration_since(since).as_secs_f64() / MEMORY.as_secs_f64();
                value + (average - value) * (-passed).exp()
            }
            Some(_) | None => value,
        };
        self.last = Some((average, now));
    }

    pub(super) fn seconds(&self) -> Option<f64> {
        self.last.map(|(average, _)| average)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let begin = Instant::now();
        let mut average = Average::new();
        let mut learn = |millis, after: u64| {
            average.learn(Duration::from_millis(millis), begin + Duration::from_secs(after));
            average.seconds().unwrap() * 1000.0
        };
        assert!((learn(10, 0) - 10.0).abs() < 1e-9);
        assert!((learn(100, 1) - 100.0).abs() < 1e-9);
        assert!((learn(10, 11) - (10.0 + 90.0 * (-1.0_f64).exp())).abs() < 1e-9);
        assert!(learn(10, 100) < 10.01);
    }
}
