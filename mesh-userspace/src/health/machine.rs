//! From single results to a state: pure.
//!
//! Invariants: the first result decides; afterwards the state changes only after `fall` failures or `rise`
//! successes in a row, and any other result starts the count anew.

use std::time::{Duration, Instant};

use super::ProbeError;

/// Whether a backend answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No probe has ended yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not answer as it should.
    Down,
}

impl State {
    /// The word in output and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The health of one backend of one service.
#[derive(Debug, Clone)]
pub struct Machine {
    rise: u32,
    fall: u32,
    state: State,
    /// Results in a row that speak against the state.
    against: u32,
    since: Option<Instant>,
    latency: Option<Duration>,
    last_error: Option<ProbeError>,
}

impl Machine {
    /// Knows nothing yet. `rise` successes in a row make it up again, `fall` failures in a row make it down.
    #[must_use]
    pub const fn new(rise: u32, fall: u32) -> Self {
        Self::resume(State::Unknown, rise, fall)
    }

    /// Begins in a state that was found earlier; only `rise` or `fall` new results in a row change it.
    #[must_use]
    pub const fn resume(state: State, rise: u32, fall: u32) -> Self {
        Self { rise, fall, state, against: 0, since: None, latency: None, last_error: None }
    }

    /// Takes one result, either how long the success took or why the probe failed, and returns the state if it
    /// has changed.
    pub fn on_probe(&mut self, now: Instant, result: Result<Duration, ProbeError>) -> Option<State> {
        let found = if result.is_ok() { State::Up } else { State::Down };
        let changed = self.count(found).then_some(found);
        if changed.is_some() {
            self.since = Some(now);
            self.state = found;
        }
        self.note(result);
        changed
    }

    /// Whether the state has to change to what was found.
    const fn count(&mut self, found: State) -> bool {
        let enough = match (self.state, found) {
            (State::Unknown, _) => 1,
            (State::Up, State::Down) => self.fall,
            (State::Down, State::Up) => self.rise,
            (State::Up | State::Down, _) => {
                self.against = 0;
                return false;
            }
        };
        self.against += 1;
        let changes = self.against >= enough;
        if changes {
            self.against = 0;
        }
        changes
    }

    fn note(&mut self, result: Result<Duration, ProbeError>) {
        match result {
            Ok(latency) => self.latency = Some(latency),
            Err(error) => return self.last_error = Some(error),
        }
        if self.state == State::Up {
            self.last_error = None;
        }
    }

    /// The state now.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When the state last changed; none before the first change.
    #[must_use]
    pub const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How long the last successful probe took.
    #[must_use]
    pub const fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The last failure: kept while down, forgotten when a probe succeeds and the backend is up.
    #[must_use]
    pub const fn last_error(&self) -> Option<&ProbeError> {
        self.last_error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LATENCY: Duration = Duration::from_millis(3);

    fn result(success: bool) -> Result<Duration, ProbeError> {
        if success { Ok(LATENCY) } else { Err(failure()) }
    }

    fn failure() -> ProbeError {
        ProbeError::Refused { address: "192.0.2.1:80".parse().unwrap() }
    }

    /// Feeds results, one a second; returns the machine and each change with the number of its result.
    fn fed(mut machine: Machine, start: Instant, results: &[bool]) -> (Machine, Vec<(usize, State)>) {
        let mut changes = Vec::new();
        for (i, success) in results.iter().enumerate() {
            let change = machine.on_probe(start + Duration::from_secs(i as u64), result(*success));
            changes.extend(change.map(|state| (i, state)));
        }
        (machine, changes)
    }

    fn after(results: &[bool]) -> Machine {
        fed(Machine::new(2, 3), Instant::now(), results).0
    }

    #[test]
    fn nothing_is_known_before_the_first_result() {
        let machine = Machine::new(2, 3);
        assert_eq!((machine.state(), machine.since(), machine.latency()), (State::Unknown, None, None));
    }

    #[test]
    fn the_first_result_decides_at_once() {
        assert_eq!(after(&[true]).state(), State::Up);
        assert_eq!(after(&[false]).state(), State::Down);
    }

    #[test]
    fn an_error_is_forgotten_by_a_success_while_up_and_kept_while_down() {
        assert_eq!(after(&[true, false]).last_error(), Some(&failure()));
        assert_eq!(after(&[true, false, true]).last_error(), None);
        assert_eq!(after(&[false, true]).last_error(), Some(&failure()));
        assert_eq!(after(&[false, true, true]).last_error(), None);
    }

    #[test]
    fn the_latency_is_that_of_the_last_success() {
        assert_eq!(after(&[true, false]).latency(), Some(LATENCY));
    }

    #[test]
    fn a_resumed_state_needs_a_whole_series_to_change() {
        let (machine, changes) = fed(Machine::resume(State::Up, 2, 3), Instant::now(), &[false, false]);
        assert_eq!((machine.state(), changes), (State::Up, vec![]));
        let (_, changes) = fed(Machine::resume(State::Down, 2, 3), Instant::now(), &[true, true]);
        assert_eq!(changes, [(1, State::Up)]);
    }

    #[test]
    fn thresholds_of_zero_act_as_one() {
        let (_, changes) = fed(Machine::new(0, 0), Instant::now(), &[true, false, true]);
        assert_eq!(changes, [(0, State::Up), (1, State::Down), (2, State::Up)]);
    }

    proptest! {
        #[test]
        fn it_never_changes_before_enough_equal_results_in_a_row(
            rise in 1..6_u32, fall in 1..6_u32, results in proptest::collection::vec(any::<bool>(), 1..200)
        ) {
            let (_, changes) = fed(Machine::new(rise, fall), Instant::now(), &results);
            for (i, state) in changes.into_iter().filter(|(i, _)| *i > 0) {
                let needed = if state == State::Up { rise } else { fall } as usize;
                let row = &results[(i + 1).checked_sub(needed).unwrap()..=i];
                prop_assert!(row.iter().all(|success| *success == (state == State::Up)));
            }
        }

        #[test]
        fn it_always_changes_after_enough_equal_results_in_a_row(
            rise in 1..6_u32, fall in 1..6_u32, results in proptest::collection::vec(any::<bool>(), 1..200)
        ) {
            let start = Instant::now();
            for end in 1..=results.len() {
                let (machine, _) = fed(Machine::new(rise, fall), start, &results[..end]);
                let last = results[end - 1];
                let row = results[..end].iter().rev().take_while(|success| **success == last).count();
                let (state, needed) = if last { (State::Up, rise) } else { (State::Down, fall) };
                prop_assert!(row < needed as usize || machine.state() == state);
            }
        }

        #[test]
        fn changes_alternate_and_since_is_the_time_of_the_last(
            rise in 1..6_u32, fall in 1..6_u32, results in proptest::collection::vec(any::<bool>(), 1..200)
        ) {
            let start = Instant::now();
            let (machine, changes) = fed(Machine::new(rise, fall), start, &results);
            prop_assert!(changes.windows(2).all(|pair| pair[0].1 != pair[1].1));
            let (i, state) = *changes.last().unwrap();
            prop_assert_eq!(machine.state(), state);
            prop_assert_eq!(machine.since(), Some(start + Duration::from_secs(i as u64)));
        }
    }
}
