//! Failures that have one cause, as the agent takes them: told once, and their backends held if that is wanted.

use super::{clock, state::Agent};
use crate::{
    config::{Config, OnCorrelated},
    events::{Happening, Kind},
    health::{self, Event, Fact, Incident, State, Verdict},
    nexthop::Resolution,
};
use std::{collections::BTreeMap, time::Duration};
use tracing::{info, warn};

impl Agent {
    /// Takes in what probes say, over all backends.
    pub(super) fn correlate(&mut self) {
        let (facts, window) = (self.facts(), widest_gap(&self.config));
        let mut happenings = Vec::new();
        for event in self.correlator.judge(clock::now(), &facts, window) {
            let (Event::Began(incident) | Event::Recovered(incident) | Event::Expired(incident)) = &event;
            let Incident { cause, most, of, failing, .. } = incident;
            let (failing, action) = (failing.len(), self.config.probing.correlated.action);
            let message = match &event {
                Event::Began(_) => {
                    self.incidents += 1;
                    warn!(%cause, failing, of, %action, "probes of many backends began to fail at once");
                    format!("probes of {failing} of {of} backends began to fail at once, {cause}")
                }
                Event::Recovered(_) => {
                    info!(%cause, failing, most, "most of the backends that failed at once answer again");
                    format!("most of {most} backends that failed at once answer again, {cause}")
                }
                Event::Expired(_) => {
                    warn!(%cause, failing, most, "backends that failed at once fail still, they are down now");
                    format!("{failing} backends that failed at once fail still, they are down now, {cause}")
                }
            };
            happenings.push(Happening::new(Kind::Incident, message));
        }
        self.tell(happenings);
    }

    fn facts(&self) -> BTreeMap<health::Key, Fact> {
        let (verdicts, next_hops) = (self.inputs.verdicts(), self.inputs.next_hops());
        let fact = |(key, verdict): (&health::Key, &Verdict)| {
            let interface = match next_hops.get(&key.address) {
                Some(Resolution::Resolved(hop)) => Some(hop.ifindex),
                Some(Resolution::Unresolved { .. }) | None => None,
            };
            (*key, Fact { state: verdict.state, failing: verdict.failing, interface })
        };
        verdicts.iter().map(fact).collect()
    }

    /// The verdicts that are in force, if they are others than those of the probes.
    pub(super) fn in_force(
        &self,
        verdicts: &BTreeMap<health::Key, Verdict>,
    ) -> Option<BTreeMap<health::Key, Verdict>> {
        let stays = |key: &&health::Key| self.correlator.stayed(key);
        let stayed: Vec<_> = verdicts.keys().filter(stays).copied().collect();
        let mut in_force = (!stayed.is_empty()).then(|| verdicts.clone())?;
        for key in stayed {
            // What was never away does not start slowly.
            if let Some(verdict) = in_force.get_mut(&key) {
                *verdict = Verdict { state: State::Up, risen: None, ..verdict.clone() };
            }
        }
        Some(in_force)
    }

    /// What somebody should look at.
    pub(super) fn incident_problems(&self) -> Vec<String> {
        let rules = self.config.probing.correlated;
        let problem = |incident: &Incident| {
            let Incident { cause, began, failing, of, .. } = incident;
            let left =
                rules.hold_for.saturating_sub(clock::now().saturating_duration_since(*began)).as_secs();
            let consequence = match rules.action {
                OnCorrelated::Hold => format!("they stay as they were for {left} s more"),
                OnCorrelated::Follow => "they are down".to_owned(),
            };
            format!("probes of {} of {of} backends fail at once, {cause}: {consequence}", failing.len())
        };
        self.correlator.incidents().iter().map(problem).collect()
    }
}

/// How far apart the first failures of one outage may be, as backends are probed.
fn widest_gap(config: &Config) -> Duration {
    let gaps = config.services.iter().filter_map(|service| service.health.as_ref());
    gaps.map(|health| health.interval + health.timeout).max().unwrap_or_default()
}
