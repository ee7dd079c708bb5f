//! Who gets a packet of a service: the owner of its slot, whom its record names, or whom the scheduler picks.

use crate::{client::Client, flows, journey, maps, parse::Flow, schedule, tables::Tables};
use mesh_common::{
    abi::{Journey, flag, programs},
    flow::{Segment, decide, unrecorded},
    outcome::Outcome,
    slot::Slot,
    table,
};

/// Notes who gets the packet, and says which program goes on with it.
#[inline(always)]
pub(crate) fn run() -> Result<u32, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let choice = choose(journey)?;
    journey.backend = choice.backend;
    journey.opened = u8::from(choice.opened);
    Ok(programs::DELIVER)
}

#[inline(always)]
fn choose(journey: &Journey) -> Result<Choice, Outcome> {
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let (service, flow) = (&journey.service, journey::flow(journey));
    let slot = tables.slot(service, journey.slot_hash).ok_or(Outcome::NoBackend)?;
    if service.flags & (flag::SCHEDULER | flag::CAPPED) != 0 {
        return schedule::choose(tables, &flow, service, slot, journey.hash);
    }
    let owner = owner(tables, &flow, service.id, slot, journey.hash);
    Ok(owner
        .map_or_else(|| tracked(tables, &flow, service.id, slot, journey.hash), |owner| owned(&flow, owner)))
}

/// Who gets a packet.
pub(crate) struct Choice {
    /// The backend's id.
    pub(crate) backend: u32,
    /// Whether a flow begins.
    pub(crate) opened: bool,
}

/// Whom the slot names, if no record has a say: the slot does not consult the flow table, or the flow surely has none.
#[inline(always)]
pub(crate) fn owner<C>(tables: Tables, flow: &Flow<C>, service: u32, slot: Slot, hash: u64) -> Option<u32> {
    if !slot.consults() {
        return Some(slot.current());
    }
    let owner = unrecorded(slot, flow.signs.opens())?;
    (!flows::may_be_recorded(tables, table::key(hash, service))).then_some(owner)
}

/// Who gets a packet without a record.
#[inline(always)]
pub(crate) fn owned<C>(flow: &Flow<C>, owner: u32) -> Choice {
    Choice { backend: owner, opened: flow.signs.opens() }
}

/// Whom [`decide`] names, after a look at the flow's record, which is written anew.
#[inline(always)]
pub(crate) fn tracked<C: Client>(
    tables: Tables,
    flow: &Flow<C>,
    service: u32,
    slot: Slot,
    hash: u64,
) -> Choice {
    let segment = flow.signs.segment();
    let (key, now) = (table::key(hash, service), maps::now());
    let found = flows::find(tables, key, now);
    let known = found.map(|(_, record)| (record, tables.is_alive(record.backend)));
    let decision = decide(slot, segment, known, now);
    match (&decision.record, found) {
        (Some(record), Some((place, _))) => place.write(key, record),
        (Some(record), None) => {
            flows::record(tables, key, record, now, &flow.client.named(key, service));
        }
        (None, _) => {}
    }
    let first_datagram = segment == Segment::Datagram && found.is_none() && decision.record.is_some();
    Choice { backend: decision.backend, opened: segment == Segment::Opening || first_datagram }
}
