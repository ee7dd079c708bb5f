//! How long to wait after a failure.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// The wait after the first failure; it doubles with each that follows, and chance makes it up to twice as long.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait, before chance.
const LONGEST: Duration = Duration::from_secs(15);

/// Waits between attempts, which grow while they fail.
#[derive(Debug)]
pub(super) struct Waits(ExponentialBackoff);

impl Waits {
    pub(super) fn new() -> Self {
        let waits = ExponentialBuilder::default().with_min_delay(FIRST).with_max_delay(LONGEST);
        Self(waits.with_jitter().without_max_times().build())
    }

    /// After one more failure.
    pub(super) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(LONGEST)
    }

    /// After a success.
    pub(super) fn restart(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_never_end() {
        let mut waits = Waits::new();
        let first = FIRST..=2 * FIRST;
        assert!(first.contains(&waits.next()));
        let all: Vec<Duration> = (0..40).map(|_| waits.next()).collect();
        let later = all.iter().skip(20);
        later.for_each(|wait| assert!((LONGEST..=2 * LONGEST).contains(wait), "{wait:?}"));
        waits.restart();
        assert!(first.contains(&waits.next()));
    }
}
