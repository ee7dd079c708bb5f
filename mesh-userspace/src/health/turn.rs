//! The probes that led to a state, for those who tell how it came about.

use std::time::{Duration, SystemTime};

use crate::config::ProbeName;

/// Of a longer run, the first and the latest probes are kept.
const MOST: usize = 16;

/// A probe that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// When it began.
    pub begun: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Why it failed; `None`: it did not.
    pub error: Option<String>,
}

/// Probes in a row that made a backend up or down, oldest first; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What was probed for.
    pub kind: ProbeName,
    /// The probes.
    pub probes: Vec<Probed>,
}

impl Probed {
    /// When it ended.
    #[must_use]
    pub fn ended(&self) -> SystemTime {
        self.begun + self.took
    }
}

/// Probes in a row that speak against a state.
#[derive(Debug, Default)]
pub(super) struct Run(Vec<Probed>);

impl Run {
    pub(super) fn add(&mut self, probe: Probed) {
        if self.0.len() >= MOST {
            self.0.remove(1);
        }
        self.0.push(probe);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What it was good for.
    pub(super) fn take(&mut self, kind: ProbeName) -> Turn {
        Turn { kind, probes: std::mem::take(&mut self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_run_the_first_and_the_latest_are_kept() {
        let mut run = Run::default();
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        for second in 0..40 {
            run.add(Probed { begun: at(second), took: Duration::from_secs(1), error: None });
        }
        let turn = run.take(ProbeName::Tcp);
        let begun: Vec<SystemTime> = turn.probes.iter().map(|probe| probe.begun).collect();
        let expected: Vec<SystemTime> = std::iter::once(0).chain(25..40).map(at).collect();
        assert_eq!((begun, turn.probes[0].ended()), (expected, at(1)));
        assert!(run.take(ProbeName::Tcp).probes.is_empty());
    }
}
