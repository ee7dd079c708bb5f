//! Services that a plan need not look at: nothing about them has changed, and time alone changes nothing yet.

use super::{Plan, Sweep};
use crate::{
    config::ServiceKey,
    desired::{self, Desired},
};
use std::{collections::BTreeMap, time::Instant};

/// When a plan has to look at a service's slots again though nothing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// At this moment.
    pub(super) at: Option<Instant>,
    /// After the next sweep.
    pub(super) with_sweep: bool,
}

impl Due {
    /// Not later than at this moment.
    pub(super) fn by(&mut self, moment: Instant) {
        self.at = Some(self.at.map_or(moment, |at| at.min(moment)));
    }
}

/// Services as they were when a plan was last made for them and carried out.
#[derive(Clone, Debug, Default)]
pub struct Rest {
    services: BTreeMap<ServiceKey, (desired::Service, Due)>,
    /// When the sweep began that these plans knew.
    swept: Option<Instant>,
}

impl Rest {
    /// Notes a plan whose ops are done.
    pub fn conclude(&mut self, plan: &Plan, desired: &Desired, sweep: &Sweep) {
        self.services.retain(|key, _| desired.services.contains_key(key));
        if !plan.problems.is_empty() {
            return self.forget();
        }
        self.swept = sweep.started;
        for (key, due) in &plan.planned {
            if let Some(service) = desired.services.get(key) {
                self.services.insert(*key, (service.clone(), *due));
            }
        }
    }

    /// Looks at everything again with the next plan: the maps may be other than was thought.
    pub fn forget(&mut self) {
        self.services.clear();
    }

    /// Whether a sweep or time alone brings ops for what was planned.
    #[must_use]
    pub fn is_due(&self, sweep: &Sweep, now: Instant) -> bool {
        sweep.started != self.swept || self.services.values().any(|(_, due)| self.has_come(*due, sweep, now))
    }

    /// Whether a plan would find nothing to do for a service.
    pub(super) fn holds(
        &self,
        key: ServiceKey,
        service: &desired::Service,
        sweep: &Sweep,
        now: Instant,
    ) -> bool {
        let known = self.services.get(&key).filter(|(known, _)| known == service);
        // Connection ids go their own way.
        known.is_some_and(|(_, due)| !self.has_come(*due, sweep, now)) && service.quic.is_empty()
    }

    fn has_come(&self, due: Due, sweep: &Sweep, now: Instant) -> bool {
        due.at.is_some_and(|at| at <= now) || (due.with_sweep && sweep.started != self.swept)
    }
}
