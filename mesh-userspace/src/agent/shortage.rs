//! What connections were refused for: ports and places that are not there.

use super::state::Agent;
use crate::{
    dataplane::Dataplane as _,
    events::{Happening, Kind},
};
use mesh_common::outcome::Outcome;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// For how long a shortage is told of after the last connection that it refused.
const MEMORY: Duration = Duration::from_secs(60);

/// What new connections were refused for.
#[derive(Debug, Default)]
pub(super) struct Shortages {
    /// Packets that ended so, as they were counted last.
    counted: BTreeMap<Outcome, u64>,
    /// When some did last.
    last: BTreeMap<Outcome, Instant>,
}

/// The outcomes that mean one, and what to do about it.
const KINDS: [(Outcome, &str); 2] = [
    (Outcome::PortsExhausted, "no port is left towards a backend: add addresses to nat.source, or backends"),
    (Outcome::ConnectionsExhausted, "there is no room for another: raise limits.connections"),
];

impl Shortages {
    /// Takes new counts, and returns what somebody is to be told.
    fn count(&mut self, outcomes: &BTreeMap<Outcome, u64>, now: Instant) -> Vec<Happening> {
        let mut happenings = Vec::new();
        for (outcome, about) in KINDS {
            let count = outcomes.get(&outcome).copied().unwrap_or(0);
            // What was counted before this agent is not news.
            let before = self.counted.insert(outcome, count).unwrap_or(count);
            if count != before && self.last.insert(outcome, now).is_none() {
                happenings.push(Happening::new(Kind::Service, format!("connections are refused: {about}")));
            }
        }
        let over: Vec<_> = self.last.iter().filter(|(_, last)| now - **last > MEMORY).collect();
        let over: Vec<Outcome> = over.into_iter().map(|(outcome, _)| *outcome).collect();
        for outcome in over {
            self.last.remove(&outcome);
            let message = format!("connections are no longer refused ({})", outcome.label());
            happenings.push(Happening::new(Kind::Service, message));
        }
        happenings
    }

    /// What somebody should look at.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let lasting = KINDS.into_iter().filter(|(outcome, _)| self.last.contains_key(outcome));
        lasting.map(|(outcome, about)| format!("connections are refused ({}): {about}", outcome.label()))
    }
}

impl Agent {
    /// Looks whether connections are refused for want of room.
    pub(super) fn watch_shortages(&mut self, now: Instant) {
        if self.config.services.iter().all(|service| service.nat.is_none()) {
            return;
        }
        // What cannot be read is a problem that the status tells.
        let Ok(outcomes) = self.reconciler.dataplane().outcomes() else { return };
        let happenings = self.shortages.count(&outcomes, now);
        self.tell(happenings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_once_and_once_when_it_is_over() {
        let (mut shortages, start) = (Shortages::default(), Instant::now());
        let mut told = |count, seconds| {
            let outcomes = BTreeMap::from([(Outcome::PortsExhausted, count)]);
            let told = shortages.count(&outcomes, start + Duration::from_secs(seconds));
            let told: Vec<_> = told.into_iter().map(|it| it.message).collect();
            (told, shortages.problems().count())
        };
        assert_eq!(told(7, 0), (vec![], 0), "from before");
        let (began, problems) = told(8, 10);
        assert!(began.len() == 1 && began[0].contains("nat.source") && problems == 1, "{began:?}");
        assert_eq!(told(9, 20), (vec![], 1));
        assert_eq!(told(9, 80), (vec![], 1));
        assert_eq!(told(9, 81), (vec!["connections are no longer refused (ports_exhausted)".to_owned()], 0));
    }
}
