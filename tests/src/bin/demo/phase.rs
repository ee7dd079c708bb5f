//! What one phase showed, and whether it was right.

use crate::tally::{BACKENDS, Tally};

/// One phase of the demo.
#[derive(Debug)]
pub(crate) struct Phase {
    /// What was done.
    pub(crate) title: String,
    /// All requests of the phase.
    pub(crate) all: Tally,
    /// Those that began when the agent had acted.
    pub(crate) settled: Tally,
    /// What is wrong, one sentence each.
    pub(crate) wrong: Vec<String>,
}

impl Phase {
    /// A phase that could not be played to its end, with its requests until then.
    pub(crate) fn broken(title: &str, all: Tally, error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self { title: title.into(), all, settled: Tally::default(), wrong: vec![lines.join("; ")] }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Adds a sentence if something is wrong.
    pub(crate) fn expect(&mut self, right: bool, otherwise: impl FnOnce(&Self) -> String) {
        if !right {
            self.wrong.push(otherwise(self));
        }
    }

    /// No request failed, from the first to the last.
    pub(crate) fn expect_no_failure(&mut self) {
        self.expect(self.all.failed() == 0, |phase| failures("", &phase.all));
    }

    /// No request failed that began when the agent had acted.
    pub(crate) fn expect_no_late_failure(&mut self) {
        let when = " that began after the agent had noticed";
        self.expect(self.settled.failed() == 0, |phase| failures(when, &phase.settled));
    }

    /// Answers spread by these weights since the agent had acted.
    pub(crate) fn expect_spread(&mut self, weights: [u16; BACKENDS]) {
        self.wrong.extend(self.settled.misfit(weights));
    }
}

fn failures(which: &str, tally: &Tally) -> String {
    let (failed, requests) = (tally.failed(), tally.requests());
    format!("{failed} of {requests} requests{which} failed: {}", tally.main_reason())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::End;

    fn phase(settled: [u64; BACKENDS], failed: u32) -> Phase {
        let settled = Tally { answered: settled, ..Tally::default() };
        let mut all = settled.clone();
        (0..failed).for_each(|_| all.add(&End::Failed("refused".into())));
        Phase { title: "x".into(), all, settled, wrong: Vec::new() }
    }

    #[test]
    fn what_fits_is_right() {
        let mut phase = phase([150, 150, 300], 0);
        phase.expect_no_failure();
        phase.expect_no_late_failure();
        phase.expect_spread([100, 100, 200]);
        assert!(phase.is_right(), "{:?}", phase.wrong);
    }

    #[test]
    fn an_early_failure_is_wrong_only_where_none_is_allowed() {
        let mut phase = phase([150, 150, 300], 2);
        phase.expect_no_late_failure();
        assert!(phase.is_right());
        phase.expect_no_failure();
        assert_eq!(phase.wrong, ["2 of 602 requests failed: refused"]);
    }

    #[test]
    fn a_phase_that_broke_says_why_in_one_line() {
        let error = anyhow::anyhow!("cause\n  advice\n").context("effect");
        let phase = Phase::broken("x", Tally::default(), &error);
        assert_eq!(phase.wrong, ["effect: cause; advice"]);
    }
}
