//! The whole way's end: the packet goes to its backend, or its sender is told why not.

use crate::{
    client::{Client, Client4, Client6},
    forward, fragments, journey, maps, notes,
    tables::Tables,
    vlan,
};
use aya_ebpf::programs::XdpContext;
use mesh_common::{
    abi::{Journey, protocol},
    flow::Signs,
    outcome::Outcome,
};
use mesh_ebpf::packet::Packet;

/// Sends the packet to its backend, with its tags if it leaves where it came in, and counts it with the backend.
#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> Result<Outcome, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let backend = tables.backend(journey.backend).filter(|entry| entry.forward != 0);
    let backend = backend.ok_or(Outcome::NoBackend)?;
    let packet = Packet::new(context);
    match backend.room {
        0 => return Err(Outcome::NoNextHop),
        room if journey.length > room => return Err(too_big(packet, journey, room, backend.tell != 0)),
        _ => {}
    }
    let (inner, destination) = (journey::inner(journey), journey.destination);
    let sent = forward::to::<true>(packet, inner, destination, backend, journey.hash)?;
    conclude(context, journey, sent)
}

/// The end of a packet that is ready for the wire towards its backend: its tags, if it leaves where it came in, what its
/// other fragments are told, and the counters of the backend.
#[inline(always)]
pub(crate) fn conclude(context: &XdpContext, journey: &Journey, sent: Outcome) -> Result<Outcome, Outcome> {
    if let Outcome::Transmitted = sent {
        vlan::put_back(context, journey).ok_or(Outcome::NoHeadroom)?;
    }
    fragments::note_sent(journey);
    if notes::writes() {
        maps::count_sent(journey.backend, sent, journey.length, journey.opened != 0);
    }
    Ok(sent)
}

/// A packet of more bytes than `room`; its sender is told so if it forbids fragments, or `always`. Neither errors nor
/// later fragments are answered by errors (RFC 1122 §3.2.2).
#[inline(always)]
pub(crate) fn too_big(packet: Packet, journey: &Journey, room: u16, always: bool) -> Outcome {
    if journey.signs == Signs::RELATED {
        return Outcome::TooBig;
    }
    let told = match journey.family {
        protocol::IPIP => Client4::tell(packet, room, always),
        _ => Client6::tell(packet, room, always),
    };
    told.map_or(Outcome::TooBig, |()| Outcome::TooBigTold)
}
