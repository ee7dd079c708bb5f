//! How many slots may move: so many in a minute, saved for no longer.

use std::time::{Duration, Instant};

/// The least that is worth a step, as a part of all slots.
const STEP: f64 = 0.01;

/// Savings of no more than this are kept.
const MOST: Duration = Duration::from_secs(60);

/// Halvings of a step until it fits: to a millionth.
const HALVINGS: u32 = 20;

/// Slots that may move, as a part of all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    saved: f64,
    at: Instant,
}

impl Budget {
    pub(super) const fn new(now: Instant) -> Self {
        Self { saved: 0.0, at: now }
    }

    /// Which part of the way from these weights to those is gone now, at so many percent of the slots in a minute. What
    /// it moves is spent.
    pub(super) fn spend(&mut self, is: &[f64], wanted: &[f64], percent: u8, now: Instant) -> f64 {
        let most = f64::from(percent) / 100.0;
        let passed = now.saturating_duration_since(self.at).as_secs_f64() / MOST.as_secs_f64();
        (self.saved, self.at) = ((self.saved + passed * most).min(most), now);
        let all = moved(is, wanted, 1.0);
        // Where fewer slots may move in a minute than a step takes, a minute's worth is a step.
        let step = STEP.min(most);
        // After a minute's rest a smaller one is worth it, or the last would never be taken.
        let least = if self.saved < most { step } else { step / 10.0 };
        if all < least || self.saved < step {
            return 0.0;
        }
        let part = if all <= self.saved { 1.0 } else { largest(is, wanted, self.saved) };
        self.saved -= moved(is, wanted, part);
        part
    }
}

/// The largest part of the way that moves no more than that.
fn largest(is: &[f64], wanted: &[f64], most: f64) -> f64 {
    let (mut fits, mut too_far) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let half = f64::midpoint(fits, too_far);
        if moved(is, wanted, half) <= most { fits = half } else { too_far = half }
    }
    fits
}

/// The part of all slots that gets another owner where weights go a part of the way.
pub(super) fn moved(is: &[f64], wanted: &[f64], part: f64) -> f64 {
    let (all_before, before) = (is.iter().sum::<f64>(), is.iter());
    let after: Vec<f64> = is.iter().zip(wanted).map(|(is, wanted)| is + part * (wanted - is)).collect();
    let all_after: f64 = after.iter().sum();
    if all_before <= 0.0 || all_after <= 0.0 {
        return 0.0;
    }
    before.zip(&after).map(|(is, then)| (then / all_after - is / all_before).abs()).sum::<f64>() / 2.0
}
