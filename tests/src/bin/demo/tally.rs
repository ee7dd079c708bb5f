//! Counting requests, and whether counts fit the weights: pure.

use std::collections::BTreeMap;

/// Backends of the demo.
pub(crate) const BACKENDS: usize = 3;

/// Standard deviations that chance is given: it exceeds them once in 1.7 million counts.
const SIGMAS: f64 = 5.0;

/// By how much a table's shares differ from the weights, at most, relative to the weights.
const TABLE: f64 = 0.01;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Answered by the backend with this index.
    Answered(usize),
    /// Not answered as it should be: why.
    Failed(String),
}

/// What became of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Answers of each backend.
    pub(crate) answered: [u64; BACKENDS],
    /// How often requests failed for each reason.
    pub(crate) reasons: BTreeMap<String, u64>,
}

impl Tally {
    /// Takes one more request into account.
    pub(crate) fn add(&mut self, end: &End) {
        match end {
            End::Answered(backend) => self.answered.iter_mut().skip(*backend).take(1).for_each(|n| *n += 1),
            End::Failed(reason) => *self.reasons.entry(reason.clone()).or_default() += 1,
        }
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.reasons.values().sum()
    }

    /// Requests in all.
    pub(crate) fn requests(&self) -> u64 {
        self.answers() + self.failed()
    }

    /// The part of the answers that came from each backend.
    pub(crate) fn shares(&self) -> [f64; BACKENDS] {
        let all = self.answers().max(1) as f64;
        self.answered.map(|answers| answers as f64 / all)
    }

    /// The reason that occurs most.
    pub(crate) fn main_reason(&self) -> &str {
        self.reasons.iter().max_by_key(|(_, count)| **count).map_or("", |(reason, _)| reason)
    }

    /// The first backend whose number of answers chance does not explain, in words.
    pub(crate) fn misfit(&self, weights: [u16; BACKENDS]) -> Option<String> {
        let (all, sum) = (self.answers(), weights.iter().map(|weight| f64::from(*weight)).sum::<f64>());
        let numbered = (1..).zip(self.answered).zip(weights);
        numbered.into_iter().find_map(|((number, answers), weight)| {
            let (expected, margin) = expect(all, f64::from(weight) / sum);
            let fits = (answers as f64 - expected).abs() <= margin;
            (!fits).then(|| {
                format!(
                    "backend-{number} gave {answers} of {all} answers, expected {expected:.0} ± {margin:.0}"
                )
            })
        })
    }

    fn answers(&self) -> u64 {
        self.answered.iter().sum()
    }
}

/// How many of `all` independent flows a backend with this share gets, and how far off chance may be.
pub(crate) fn expect(all: u64, share: f64) -> (f64, f64) {
    let expected = all as f64 * share;
    (expected, SIGMAS * (expected * (1.0 - share)).sqrt() + TABLE * expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answered: [u64; BACKENDS]) -> Tally {
        Tally { answered, ..Tally::default() }
    }

    #[test]
    fn counts_near_the_weights_fit() {
        for counts in [[150, 150, 300], [170, 140, 290], [132, 166, 302]] {
            assert_eq!(answered(counts).misfit([100, 100, 200]), None, "{counts:?}");
        }
    }

    #[test]
    fn equal_counts_do_not_fit_unequal_weights() {
        let misfit = answered([200, 200, 200]).misfit([100, 100, 200]).unwrap();
        assert!(misfit.contains("backend-3 gave 200 of 600 answers, expected 300"), "{misfit}");
    }

    #[test]
    fn one_answer_of_a_backend_without_weight_is_one_too_many() {
        assert_eq!(answered([300, 300, 0]).misfit([100, 100, 0]), None);
        let misfit = answered([300, 300, 1]).misfit([100, 100, 0]).unwrap();
        assert!(misfit.starts_with("backend-3 gave 1 of 601"), "{misfit}");
    }

    #[test]
    fn failures_count_as_requests_and_not_as_answers() {
        let mut tally = Tally::default();
        for end in [End::Answered(1), End::Failed("refused".into()), End::Failed("refused".into())] {
            tally.add(&end);
        }
        tally.add(&End::Failed("late".into()));
        assert_eq!((tally.requests(), tally.failed(), tally.main_reason()), (4, 3, "refused"));
        assert_eq!(tally.shares(), [0.0, 1.0, 0.0]);
    }
}
