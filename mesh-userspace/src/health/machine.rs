//! From single results to a state: pure.
//!
//! Invariants: the first result decides; afterwards the state changes only after `fall` failures or `rise`
//! successes in a row, and any other result starts the count anew. A backend that goes down too often comes up later
//! than these say, never earlier.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ProbeError;
use crate::config::{Damping, Health};

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

/// When states change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Successes in a row that make a backend up again.
    pub rise: u32,
    /// Failures in a row that make it down.
    pub fall: u32,
    /// What becomes of one that goes down too often.
    pub damping: Option<Damping>,
}

impl From<&Health> for Rules {
    fn from(health: &Health) -> Self {
        Self { rise: health.rise, fall: health.fall, damping: health.damping }
    }
}

/// The health of one backend of one service.
#[derive(Debug, Clone)]
pub struct Machine {
    rules: Rules,
    state: State,
    /// Results in a row that speak against the state.
    against: u32,
    /// When the first of these came.
    against_since: Option<Instant>,
    /// When it last went down, the latest last; no more than the rules ask for.
    falls: VecDeque<Instant>,
    since: Option<Instant>,
    risen: Option<Instant>,
    failing: Option<Instant>,
    damped: bool,
    latency: Option<Duration>,
    last_error: Option<ProbeError>,
}

impl Machine {
    /// Knows nothing yet.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        Self::resume(State::Unknown, rules)
    }

    /// Begins in a state that was found earlier; only enough new results in a row change it.
    #[must_use]
    pub const fn resume(state: State, rules: Rules) -> Self {
        Self {
            rules,
            state,
            against: 0,
            against_since: None,
            falls: VecDeque::new(),
            since: None,
            risen: None,
            failing: None,
            damped: false,
            latency: None,
            last_error: None,
        }
    }

    /// Takes one result, either how long the success took or why the probe failed, and returns the state if it
    /// has changed.
    pub fn on_probe(&mut self, now: Instant, result: Result<Duration, ProbeError>) -> Option<State> {
        let found = if result.is_ok() { State::Up } else { State::Down };
        self.failing = result.is_err().then(|| self.failing.unwrap_or(now));
        let changed = self.count(now, found).then_some(found);
        if changed.is_some() {
            self.change(now, found);
        }
        self.note(result);
        changed
    }

    /// Whether the state has to change to what was found.
    fn count(&mut self, now: Instant, found: State) -> bool {
        let enough = match (self.state, found) {
            (State::Unknown, _) => 1,
            (State::Up, State::Down) => self.rules.fall,
            (State::Down, State::Up) => self.rules.rise,
            (State::Up | State::Down, _) => {
                (self.against, self.against_since, self.damped) = (0, None, false);
                return false;
            }
        };
        self.against = self.against.saturating_add(1);
        let since = *self.against_since.get_or_insert(now);
        let is_due = self.against >= enough;
        self.damped = is_due && self.is_held(now, since);
        is_due && !self.damped
    }

    /// Whether a backend that has answered since then has gone down too often to be believed yet.
    fn is_held(&self, now: Instant, since: Instant) -> bool {
        let Some(damping) = self.rules.damping.filter(|_| self.state == State::Down) else { return false };
        let recent = |fall: &&Instant| now.saturating_duration_since(**fall) <= damping.within;
        let falls = self.falls.iter().filter(recent).count();
        u32::try_from(falls).is_ok_and(|falls| falls >= damping.falls)
            && now.saturating_duration_since(since) < damping.hold
    }

    fn change(&mut self, now: Instant, found: State) {
        match (self.state, found) {
            (State::Down, State::Up) => self.risen = Some(now),
            (State::Up, State::Down) => self.remember_fall(now),
            (State::Unknown | State::Up | State::Down, _) => {}
        }
        (self.against, self.against_since) = (0, None);
        (self.since, self.state) = (Some(now), found);
    }

    fn remember_fall(&mut self, now: Instant) {
        let Some(damping) = self.rules.damping else { return };
        while self.falls.len() >= usize::try_from(damping.falls).unwrap_or(usize::MAX) {
            self.falls.pop_front();
        }
        self.falls.push_back(now);
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

    /// When it last came up after it had been down.
    #[must_use]
    pub const fn risen(&self) -> Option<Instant> {
        self.risen
    }

    /// When the first of the present failures in a row was.
    #[must_use]
    pub const fn failing(&self) -> Option<Instant> {
        self.failing
    }

    /// Whether it would be up, had it not gone down so often.
    #[must_use]
    pub const fn is_damped(&self) -> bool {
        self.damped
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

    const fn rules(rise: u32, fall: u32) -> Rules {
        Rules { rise, fall, damping: None }
    }

    /// Down three times within a minute: up after ten seconds of successes.
    const DAMPED: Rules = Rules {
        rise: 1,
        fall: 1,
        damping: Some(Damping { falls: 3, within: Duration::from_secs(60), hold: Duration::from_secs(10) }),
    };

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
        fed(Machine::new(rules(2, 3)), Instant::now(), results).0
    }

    #[test]
    fn nothing_is_known_before_the_first_result() {
        let machine = Machine::new(rules(2, 3));
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
        let (machine, changes) =
            fed(Machine::resume(State::Up, rules(2, 3)), Instant::now(), &[false, false]);
        assert_eq!((machine.state(), changes), (State::Up, vec![]));
        let (_, changes) = fed(Machine::resume(State::Down, rules(2, 3)), Instant::now(), &[true, true]);
        assert_eq!(changes, [(1, State::Up)]);
    }

    #[test]
    fn thresholds_of_zero_act_as_one() {
        let (_, changes) = fed(Machine::new(rules(0, 0)), Instant::now(), &[true, false, true]);
        assert_eq!(changes, [(0, State::Up), (1, State::Down), (2, State::Up)]);
    }

    /// Up and down in turns until the third fall, which is the result with number 5; then successes.
    const FLAPPING: [bool; 6] = [true, false, true, false, true, false];

    #[test]
    fn a_backend_that_goes_down_too_often_has_to_stand_for_a_while() {
        let results = [&FLAPPING[..], &[true; 12]].concat();
        let (machine, changes) = fed(Machine::new(DAMPED), Instant::now(), &results);
        assert_eq!(changes.last(), Some(&(16, State::Up)), "ten seconds after the first success, number 6");
        assert!(!machine.is_damped());
        let (held, _) = fed(Machine::new(DAMPED), Instant::now(), &results[..12]);
        assert!(held.is_damped() && held.state() == State::Down && held.failing().is_none());
    }

    #[test]
    fn a_failure_while_it_is_held_starts_the_wait_anew() {
        let results = [&FLAPPING[..], &[true; 5], &[false], &[true; 12]].concat();
        let (_, changes) = fed(Machine::new(DAMPED), Instant::now(), &results);
        assert_eq!(changes.last(), Some(&(22, State::Up)));
    }

    #[test]
    fn falls_that_are_long_ago_do_not_count() {
        let start = Instant::now();
        let (mut machine, _) = fed(Machine::new(DAMPED), start, &FLAPPING);
        let later = start + Duration::from_secs(62);
        assert_eq!(machine.on_probe(later, result(true)), Some(State::Up), "the first fall was at 1 s");
    }

    #[test]
    fn a_backend_rises_when_it_was_down_and_fails_from_its_first_failure_on() {
        let start = Instant::now();
        let (machine, _) = fed(Machine::new(rules(1, 2)), start, &[true, false, false]);
        assert_eq!((machine.risen(), machine.failing()), (None, Some(start + Duration::from_secs(1))));
        let (machine, _) = fed(machine, start + Duration::from_secs(9), &[true]);
        assert_eq!((machine.risen(), machine.failing()), (Some(start + Duration::from_secs(9)), None));
    }

    proptest! {
        #[test]
        fn damping_delays_and_never_hastens_and_ends(
            results in proptest::collection::vec(any::<bool>(), 1..200)
        ) {
            let start = Instant::now();
            let plain = Rules { damping: None, ..DAMPED };
            let (mut damped, mut free) = (Machine::new(DAMPED), Machine::new(plain));
            let mut row = 0;
            for (i, success) in results.iter().enumerate() {
                let now = start + Duration::from_secs(i as u64);
                damped.on_probe(now, result(*success));
                free.on_probe(now, result(*success));
                row = if *success { row + 1 } else { 0 };
                prop_assert!(damped.state() != State::Up || free.state() == State::Up);
                prop_assert!(row <= 10 || damped.state() == State::Up);
                prop_assert_eq!(damped.is_damped(), *success && damped.state() == State::Down);
            }
        }

        #[test]
        fn it_never_changes_before_enough_equal_results_in_a_row(
            rise in 1..6_u32, fall in 1..6_u32, results in proptest::collection::vec(any::<bool>(), 1..200)
        ) {
            let (_, changes) = fed(Machine::new(rules(rise, fall)), Instant::now(), &results);
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
                let (machine, _) = fed(Machine::new(rules(rise, fall)), start, &results[..end]);
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
            let (machine, changes) = fed(Machine::new(rules(rise, fall)), start, &results);
            prop_assert!(changes.windows(2).all(|pair| pair[0].1 != pair[1].1));
            let (i, state) = *changes.last().unwrap();
            prop_assert_eq!(machine.state(), state);
            prop_assert_eq!(machine.since(), Some(start + Duration::from_secs(i as u64)));
        }
    }
}
