//! Who gets packets of services with a scheduler other than `maglev`, or a limit to their flows.
//!
//! As in [`crate::choose`], and beside it: new flows may be picked a slot, and flows are counted.

use crate::{
    choose::{Choice, owned, unremembered},
    client::{Client as _, Client6},
    flows, maps, notes,
    parse::Flow,
    tables::{self, Tables},
};
use mesh_common::{
    abi::ServiceEntry,
    flow::{Segment, begins, decide, unrecorded},
    outcome::Outcome,
    schedule::{self, Candidate, LEAST_CONNECTIONS, ROUND_ROBIN},
    slot::Slot,
    table,
};

/// Who gets the packet of a slot.
#[inline(always)]
pub(crate) fn choose(
    tables: Tables,
    flow: &Flow<Client6>,
    service: &ServiceEntry,
    slot: Slot,
    hash: u64,
) -> Result<Choice, Outcome> {
    if slot.consults() || schedule::picks(service.scheduler) {
        return tracked(tables, flow, service, slot, hash);
    }
    Ok(owned(flow, slot.current()))
}

/// Whom the flow's record names, or who gets new flows: then there is a record.
#[inline(always)]
fn tracked(
    tables: Tables,
    flow: &Flow<Client6>,
    service: &ServiceEntry,
    slot: Slot,
    hash: u64,
) -> Result<Choice, Outcome> {
    let (key, segment, now) = (table::key(hash, service.id), flow.signs.segment(), maps::now());
    let writes = notes::writes();
    let found = flows::find(tables, key, now);
    let known = found.map(|(_, record)| (record, tables.is_alive(record.backend)));
    let before = found.map_or(0, |(_, record)| schedule::counted(&record));
    let begins = begins(segment, known, now);
    let remembers = schedule::picks(service.scheduler) || unrecorded(slot, flow.signs.opens()).is_none();
    if begins
        && remembers
        && found.is_none()
        && let Some(owner) = unremembered(tables, service.id, slot, segment, now)
    {
        return Ok(owned(flow, owner));
    }
    if begins && before == 0 && is_full(service) {
        return Err(Outcome::OverCap);
    }
    let picks = begins && schedule::picks(service.scheduler);
    let picked = if picks { pick(tables, service)? } else { slot };
    let mut decision = decide(picked, segment, known, now);
    let mut stands = false;
    if let Some(record) = &decision.record {
        stands = match found {
            Some((place, _)) => {
                if writes {
                    place.write(key, record);
                }
                true
            }
            None => {
                let client = flow.client.named(key, service.id);
                flows::record(tables, key, record, now, &client, writes).is_some()
            }
        };
        if stands && writes {
            count(service, before, schedule::counted(record));
        } else if picks && !stands {
            // Nothing will be known of the flow but its hash.
            decision.backend = slot.untracked();
        }
    }
    let first_datagram = segment == Segment::Datagram && found.is_none() && decision.record.is_some();
    Ok(Choice {
        backend: decision.backend,
        opened: segment == Segment::Opening || first_datagram,
        found: found.map(|(_, record)| record),
        written: decision.record.filter(|_| stands),
    })
}

/// Whether the service has all the flows that it may have.
#[inline(always)]
fn is_full(service: &ServiceEntry) -> bool {
    service.max_flows != 0 && maps::load(load_of(service)) >= i64::from(service.max_flows)
}

/// Where the loads have a service's.
#[inline(always)]
fn load_of(service: &ServiceEntry) -> u32 {
    tables::backend_count().wrapping_add(service.id)
}

/// Counts a flow that is another backend's than before; 0: nobody's.
#[inline(always)]
pub(crate) fn count(service: &ServiceEntry, before: u32, after: u32) {
    if before == after {
        return;
    }
    if before != 0 {
        maps::add_load(before, -1);
        maps::add_load(load_of(service), -1);
    }
    if after != 0 {
        maps::add_load(after, 1);
        maps::add_load(load_of(service), 1);
    }
}

/// A slot that gives a new flow to whom it was picked for, and has it recorded.
#[inline(always)]
fn pick(tables: Tables, service: &ServiceEntry) -> Result<Slot, Outcome> {
    let chance = || tables.slot_at(service, schedule::random(maps::random(), service.size));
    let slot = match service.scheduler {
        LEAST_CONNECTIONS => chance().and_then(|first| Some(less_loaded(tables, first, chance()?))),
        ROUND_ROBIN => maps::turn(service.id, notes::writes())
            .and_then(|turns| tables.slot_at(service, schedule::turn(turns, service.size))),
        _ => chance(),
    };
    let backend = slot.ok_or(Outcome::NoBackend)?.current();
    notes::picked(backend);
    Ok(Slot::new(backend, backend, true, true))
}

/// The one of two slots whose owner has fewer flows for its weight.
#[inline(always)]
fn less_loaded(tables: Tables, first: Slot, second: Slot) -> Slot {
    notes::compared(first.current(), second.current());
    let candidate = |slot: Slot| {
        let weight = tables.backend(slot.current()).map_or(0, |backend| backend.weight);
        Candidate { flows: maps::load(slot.current()), weight }
    };
    if schedule::is_less_loaded(candidate(second), candidate(first)) { second } else { first }
}
