//! Who gets a packet of a service: the owner of its slot, whom its record names, or whom the scheduler picks.

use crate::{client::Client, floods, flows, journey, maps, notes, parse::Flow, schedule, tables::Tables};
use mesh_common::{
    abi::{Journey, flag, programs},
    flow::{FlowRecord, Segment, Ticks, decide, stateless, unrecorded},
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
    notes::records(choice.found, choice.written);
    notes::chosen(journey);
    Ok(if journey.service.flags & flag::NAT != 0 { programs::CONNECT } else { programs::DELIVER })
}

#[inline(always)]
fn choose(journey: &Journey) -> Result<Choice, Outcome> {
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let (service, flow) = (&journey.service, journey::flow(journey));
    let slot = tables.slot(service, journey.slot_hash).ok_or(Outcome::NoBackend)?;
    notes::slot(slot);
    if service.flags & (flag::SCHEDULER | flag::CAPPED) != 0 {
        return schedule::choose(tables, &flow, service, slot, journey.hash);
    }
    let owner = owner(tables, &flow, service.id, slot, journey.hash);
    let tracked = || tracked(tables, &flow, service.id, slot, journey.hash, notes::writes());
    Ok(owner.map_or_else(tracked, |owner| owned(&flow, owner)))
}

/// Who gets a packet.
pub(crate) struct Choice {
    /// The backend's id.
    pub(crate) backend: u32,
    /// Whether a flow begins.
    pub(crate) opened: bool,
    /// The flow's record, if one was looked for and found.
    pub(crate) found: Option<FlowRecord>,
    /// What it is now, if that is something else.
    pub(crate) written: Option<FlowRecord>,
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
    Choice { backend: owner, opened: flow.signs.opens(), found: None, written: None }
}

/// Who gets a packet whose flow would be recorded, if too many are.
#[inline(always)]
pub(crate) fn unremembered(
    tables: Tables,
    service: u32,
    slot: Slot,
    segment: Segment,
    now: Ticks,
) -> Option<u32> {
    let opening = if segment == Segment::Opening { floods::OPENING } else { 0 };
    let datagram = if segment == Segment::Datagram { floods::DATAGRAM } else { 0 };
    if floods::too_many(service, now, opening | datagram) == 0 {
        return None;
    }
    stateless(slot, segment).filter(|owner| tables.is_alive(*owner))
}

/// Whom [`decide`] names, after a look at the flow's record, which is written anew if this instance `writes`.
#[inline(always)]
pub(crate) fn tracked<C: Client>(
    tables: Tables,
    flow: &Flow<C>,
    service: u32,
    slot: Slot,
    hash: u64,
    writes: bool,
) -> Choice {
    let segment = flow.signs.segment();
    let (key, now) = (table::key(hash, service), maps::now());
    let found = flows::find(tables, key, now);
    let known = found.map(|(_, record)| (record, tables.is_alive(record.backend)));
    let decision = decide(slot, segment, known, now);
    let stands = match (&decision.record, found) {
        (Some(record), Some((place, _))) => {
            if writes {
                place.write(key, record);
            }
            true
        }
        (Some(_), None) if let Some(owner) = unremembered(tables, service, slot, segment, now) => {
            return owned(flow, owner);
        }
        (Some(record), None) => {
            flows::record(tables, key, record, now, &flow.client.named(key, service), writes).is_some()
        }
        (None, _) => false,
    };
    let first_datagram = segment == Segment::Datagram && found.is_none() && decision.record.is_some();
    Choice {
        backend: decision.backend,
        opened: segment == Segment::Opening || first_datagram,
        found: found.map(|(_, record)| record),
        written: decision.record.filter(|_| stands),
    }
}
