//! Refusing packets of services that have no backend, where their senders are to be told.

use crate::{
    client::{Client, Client4, Client6},
    maps,
    parse::{IP, Ip, behind_ip},
};
use mesh_common::{abi::protocol, flow::Signs, outcome::Outcome, reset::Segment};
use mesh_ebpf::{
    header::{Macs, Tcp},
    packet::Packet,
};

/// Whether the packet that ends so is to be refused.
#[inline(always)]
pub(crate) fn is_asked_for(outcome: Outcome) -> bool {
    let Some(journey) = maps::journey() else { return false };
    journey.unknown = u8::from(matches!(outcome, Outcome::NotConnected));
    matches!(outcome, Outcome::NoBackend | Outcome::NotConnected) && journey.rejects != 0
}

/// Makes the packet its own refusal, or leaves it as it is.
#[inline(always)]
pub(crate) fn run(packet: Packet) -> Outcome {
    let Some(journey) = maps::journey() else { return Outcome::Unhandled };
    let untold = if journey.unknown == 0 { Outcome::NoBackend } else { Outcome::NotConnected };
    if journey.signs == Signs::RELATED {
        return untold;
    }
    let told = match journey.family {
        protocol::IPIP => refuse::<Client4>(packet),
        _ => refuse::<Client6>(packet),
    };
    told.map_or(untold, |()| Outcome::Rejected)
}

/// Fragments are not refused, nor what comes from where no answer could go (RFC 1122 §3.2.2).
#[inline(always)]
fn refuse<C: Client>(packet: Packet) -> Option<()> {
    let mut ip = C::parse(&packet, IP).ok()?;
    ip.settle(&packet);
    let macs: &Macs = packet.view(0)?;
    if !ip.part.is_whole() || !C::is_host(ip.source) || macs.is_for_group() {
        return None;
    }
    match ip.number {
        protocol::TCP => {
            let segment = segment(&packet, &ip)?;
            C::reset(packet, &ip, segment)
        }
        number => C::unreachable(packet, number == protocol::UDP),
    }
}

#[inline(always)]
fn segment<A>(packet: &Packet, ip: &Ip<A>) -> Option<Segment> {
    let tcp: &Tcp = packet.view(ip.at)?;
    let [sequence, acknowledged] = { tcp.numbers }.map(u32::from_be);
    let headers = u32::from(behind_ip(ip.at)) + u32::from(tcp.offset >> 4) * 4;
    let payload = u32::from(ip.length).checked_sub(headers)?;
    let ports = [tcp.ports.source, tcp.ports.destination];
    Some(Segment { ports, sequence, acknowledged, flags: tcp.flags, payload })
}
