//! Who would get a flow if something were otherwise: by the planner, not by the kernel.

use super::Assumption;
use crate::{
    agent::{clock, command::CommandError, finding::unknown, state::Agent},
    api::types::{Prospect, ProspectiveFlow},
    config::{self, Config, Standing},
    dataplane::Actual,
    desired::{self, desired},
    health,
    overrides::Overrides,
};
use mesh_common::{
    abi::ServiceEntry,
    flow::{begins, decide},
    hash,
    notes::{Notes, step},
    quic::Routed,
    schedule,
    slot::Slot,
};
use std::collections::BTreeSet;

impl Agent {
    pub(super) fn prospect(
        &self,
        notes: &Notes,
        service: Option<&config::Service>,
        assumptions: &[Assumption],
    ) -> Result<Prospect, CommandError> {
        let Some(service) = service else {
            return Err(CommandError::invalid(
                "the packet is for no service, so that no backend can be otherwise",
            ));
        };
        let (mut config, mut overrides) = (self.config.clone(), self.overrides.clone());
        for assumption in assumptions {
            assume(*assumption, service, &mut config, &mut overrides)?;
        }
        let (verdicts, next_hops) = (self.inputs.verdicts(), self.inputs.next_hops());
        let in_force = self.in_force(&verdicts);
        let now = clock::now();
        let then = desired(desired::Inputs {
            config: &config,
            verdicts: in_force.as_ref().unwrap_or(&verdicts),
            next_hops: &next_hops,
            overrides: &overrides,
            factors: &self.factors,
            outliers: &self.outliers,
            local: self.local.way,
            now,
        });
        let (actual, then) = (self.reconciler.actual(), self.reconciler.prospect(&then, now));
        let entry = &notes.journey.service;
        let (before, after) = (actual.slots_of(entry), then.slots_of(entry));
        let moved = before.zip(after).filter(|((_, old), (_, new))| old.current() != new.current()).count();
        Ok(Prospect {
            assumed: assumptions.iter().map(ToString::to_string).collect(),
            new_flow: ProspectiveFlow {
                now: self.addresses(new_flow(actual, notes)),
                then: self.addresses(new_flow(&then, notes)),
            },
            this_flow: ProspectiveFlow {
                now: self.addresses(this_flow(actual, notes)),
                then: self.addresses(this_flow(&then, notes)),
            },
            slots_moved: u32::try_from(moved).unwrap_or(u32::MAX),
            slots: self.owners_of(then.slots_of(entry).map(|(_, slot)| slot)),
        })
    }

    fn addresses(&self, ids: BTreeSet<u32>) -> Vec<String> {
        ids.into_iter().filter_map(|id| self.address_of(id)).collect()
    }
}

/// Makes a configuration and orders what they would be.
fn assume(
    assumption: Assumption,
    service: &config::Service,
    config: &mut Config,
    overrides: &mut Overrides,
) -> Result<(), CommandError> {
    let (Assumption::Down(address) | Assumption::Weight(address, _)) = assumption;
    let key = service.key();
    let mut services = config.services.iter_mut().filter(|it| it.key() == key);
    let mut backends = services.by_ref().flat_map(|it| &mut it.backends);
    let Some(backend) = backends.find(|backend| backend.address == address) else {
        let name = &service.name;
        let message = format!("service {name:?}, which the packet is for, has no backend {address}");
        return Err(unknown(message, address, [service], &format!("meshlb backends {name}")));
    };
    match assumption {
        Assumption::Down(_) => backend.standing = Standing::Failing,
        Assumption::Weight(_, weight) => {
            overrides.set(health::Key { service: key, address }, |order| order.weight = Some(weight));
        }
    }
    Ok(())
}

/// The backends that may get a new flow like the packet's.
fn new_flow(actual: &Actual, notes: &Notes) -> BTreeSet<u32> {
    let service = &notes.journey.service;
    if schedule::picks(service.scheduler) {
        return owners(actual, service);
    }
    [slot(actual, notes).current()].into_iter().filter(|id| *id != 0).collect()
}

/// The backends that may get the packet.
fn this_flow(actual: &Actual, notes: &Notes) -> BTreeSet<u32> {
    let is_alive = |id: u32| actual.backends.get(&id).is_some_and(|entry| entry.alive != 0);
    let is_named = notes.has(step::ROUTED) && notes.routed == Routed::ConnectionId as u32;
    if is_named && is_alive(notes.journey.backend) {
        return [notes.journey.backend].into();
    }
    let (segment, scheduler) = (notes.journey.signs.segment(), notes.journey.service.scheduler);
    let known = notes.has(step::FOUND).then(|| (notes.found, is_alive(notes.found.backend)));
    if schedule::picks(scheduler) && begins(segment, known, notes.now) {
        return owners(actual, &notes.journey.service);
    }
    let slot = slot(actual, notes);
    let backend = if slot.consults() || known.is_some() {
        decide(slot, segment, known, notes.now).backend
    } else {
        slot.current()
    };
    [backend].into_iter().filter(|id| *id != 0).collect()
}

fn owners(actual: &Actual, service: &ServiceEntry) -> BTreeSet<u32> {
    actual.slots_of(service).map(|(_, slot)| slot.current()).filter(|id| *id != 0).collect()
}

/// The slot that the packet's hash leads to.
fn slot(actual: &Actual, notes: &Notes) -> Slot {
    let service = &notes.journey.service;
    let index = hash::slot(notes.journey.slot_hash, service.size);
    let mut slots = actual.slots_of(service);
    slots.nth(usize::try_from(index).unwrap_or(usize::MAX)).map_or(Slot::default(), |(_, slot)| slot)
}

impl std::fmt::Display for Assumption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down(address) => write!(f, "{address} is down"),
            Self::Weight(address, weight) => write!(f, "{address} has weight {weight}"),
        }
    }
}
