//! Echo requests to VIPs are answered here: the VIP is on no interface of the balancer, and its backends would answer
//! for one of them.

use crate::{
    client::Client,
    maps::{self, Answer},
    parse::{IP, Ip},
    screen::Flaw,
};
use mesh_common::{icmp, outcome::Outcome};
use mesh_ebpf::{
    header::{Icmp, Macs},
    packet::Packet,
};

/// Makes an echo request to a VIP its reply. `None` leaves it to the host: what is no such request, has options or
/// extension headers, is a fragment, or comes from where no reply could go.
#[inline(always)]
pub(crate) fn answer<C: Client>(packet: &mut Packet, ip: &Ip<C::Address>, flaw: Flaw) -> Option<Outcome> {
    if !maps::answers_echo() || !is_request::<C>(packet, ip) || !maps::is_vip(C::mapped(ip.destination)) {
        return None;
    }
    let length = usize::from(ip.length);
    if length < C::HEADER + size_of::<Icmp>() || !packet.holds(IP + length) {
        return Some(Outcome::BadLength);
    }
    if let Err(end) = flaw.judge() {
        return Some(end);
    }
    if !maps::may_send(Answer::Echo) {
        return Some(Outcome::EchoLimited);
    }
    Some(turn::<C>(packet, ip).map_or(Outcome::Truncated, |()| Outcome::EchoAnswered))
}

#[inline(always)]
fn is_request<C: Client>(packet: &Packet, ip: &Ip<C::Address>) -> bool {
    if ip.number != C::ICMP || ip.at != message_at::<C>() || !ip.part.is_whole() {
        return false;
    }
    let (Some(message), Some(macs)) = (packet.view::<Icmp>(message_at::<C>()), packet.view::<Macs>(0)) else {
        return false;
    };
    message.kind == C::ECHO.request && message.code == 0 && C::is_host(ip.source) && !macs.is_for_group()
}

/// Where the message begins behind a header without options.
const fn message_at<C: Client>() -> usize {
    IP + C::HEADER
}

/// Type, checksum, addresses of both layers, and the life change; identifier, number and data stay.
#[inline(always)]
fn turn<C: Client>(packet: &mut Packet, ip: &Ip<C::Address>) -> Option<()> {
    let asked = packet.read::<u32>(message_at::<C>())?;
    packet.write(message_at::<C>(), icmp::echo_reply(asked, C::ECHO.reply))?;
    C::turn(packet, ip)?;
    let swapped = packet.view::<Macs>(0)?.swapped();
    packet.write(0, swapped)
}
