//! The whole way's beginning: what is the packet, and for which service?

use crate::{
    client::{Client, Client4, Client6},
    connections, echo, fragments, guard, journey, maps, notes,
    parse::{self, Flow, IP, Ip},
    screen::{self, Flaw},
    tables::Tables,
    vlan, wide,
};
use aya_ebpf::programs::XdpContext;
use mesh_common::{
    abi::{Journey, flag, programs},
    flow::Signs,
    notes::step,
    outcome::Outcome,
    schedule::SOURCE,
};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6},
    packet::Packet,
};

/// Reads the packet up to its service, and says which program goes on with it.
#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> Result<u32, Outcome> {
    let journey = maps::journey().ok_or(Outcome::Unhandled)?;
    vlan::take_off(context, journey);
    frame(Packet::new(context), journey)
}

#[inline(always)]
fn frame(packet: Packet, journey: &mut Journey) -> Result<u32, Outcome> {
    let ethernet: &Ethernet = packet.view(0).ok_or(Outcome::Truncated)?;
    match ethernet.kind {
        IPV4 => ip::<Client4>(packet, journey),
        IPV6 => ip::<Client6>(packet, journey),
        _ => Err(Outcome::NotIp),
    }
}

#[inline(always)]
fn ip<C: Client>(mut packet: Packet, journey: &mut Journey) -> Result<u32, Outcome> {
    let mut ip = C::parse(&packet, IP)?;
    ip.settle(&packet);
    let flaw = Flaw::of::<C>(&packet, &ip);
    if let Some(end) = echo::answer::<C>(&mut packet, &ip, flaw) {
        return Err(end);
    }
    fragments::note::<C>(journey, &ip);
    let next = if ip.part.is_later() {
        fragment::<C>(&packet, &ip, journey)
    } else {
        service::<C>(&packet, &ip, journey)
            .inspect_err(|outcome| fragments::note_end::<C>(journey, &ip, *outcome))
    }?;
    // What no service gets is judged by nobody here, unless it turns out to be an answer that goes on as it is.
    if next == programs::REPLY { Ok(next) } else { flaw.judge().map(|()| next) }
}

/// A fragment without ports goes where the first of its packet went.
#[inline(always)]
fn fragment<C: Client>(packet: &Packet, ip: &Ip<C::Address>, journey: &mut Journey) -> Result<u32, Outcome> {
    let first = fragments::first::<C>(journey, ip)?;
    let flow = parse::later_fragment::<C>(ip, &first);
    is_whole(packet, &flow)?;
    screen::fragment(ip, &flow)?;
    journey::note(journey, &flow);
    (journey.backend, journey.opened, journey.hash) = (first.backend, 0, first.hash);
    notes::journey(step::FOLLOWED | step::CHOSEN, journey);
    notes::note(0, |notes| notes.journey.service.id = first.service);
    Ok(first.next.into())
}

/// The service of a packet, or of the packet that an ICMP error is about.
#[inline(always)]
fn service<C: Client>(packet: &Packet, ip: &Ip<C::Address>, journey: &mut Journey) -> Result<u32, Outcome> {
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    let mut flow = parse::flow::<C>(packet, ip).map_err(|end| screen::cut::<C>(packet, ip, end))?;
    notes::note(step::READ, |notes| journey::note(&mut notes.journey, &flow));
    let service = match tables.service(flow.service).map_or_else(|| wide::adopt(&mut flow), Ok) {
        Ok(service) => service,
        // What is not for a service may be what a backend answers with.
        Err(Outcome::NotAService) if connections::any() => {
            is_whole(packet, &flow).map_err(|_not_ours| Outcome::NotAService)?;
            journey::note(journey, &flow);
            return Ok(programs::REPLY);
        }
        Err(outcome) => return Err(outcome),
    };
    is_whole(packet, &flow).map_err(|end| screen::cut::<C>(packet, ip, end))?;
    screen::transport(packet, ip)?;
    let hash = wide::hash(&flow, service);
    journey.service = *service;
    journey.hash = hash;
    journey.slot_hash = if service.scheduler == SOURCE { flow.client.without_port().hash() } else { hash };
    journey::note(journey, &flow);
    journey.rejects = u8::from(service.reject != 0);
    notes::journey(step::SERVICE, journey);
    if guard::denies(service, &flow.client) {
        return Err(Outcome::Denied);
    }
    let goes_by_id = service.flags & flag::QUIC != 0 && flow.signs == Signs::DATAGRAM;
    Ok(if goes_by_id {
        programs::QUIC
    } else if service.flags & flag::NAT != 0 {
        programs::NAT
    } else {
        programs::CHOOSE
    })
}

/// Whether the packet ends where its IP header says: behind its headers, within the frame.
#[inline(always)]
fn is_whole<C>(packet: &Packet, flow: &Flow<C>) -> Result<(), Outcome> {
    if flow.length < flow.headers || !packet.holds(IP + usize::from(flow.length)) {
        return Err(Outcome::BadLength);
    }
    Ok(())
}
