//! Fragments follow the first of their packet: to its backend, or into the host.

use crate::{client::Client, maps, notes, parse::Ip, tables::Tables};
use mesh_common::{
    abi::{Journey, flag, programs},
    fragment::{FragmentKey, FragmentRecord},
    icmp::ICMPV6,
    outcome::{Outcome, Verdict},
};

/// Notes of which packet this is a fragment, if it is one.
#[inline(always)]
pub(crate) fn note<C: Client>(journey: &mut Journey, ip: &Ip<C::Address>) {
    let protocol = if C::ICMP == ICMPV6 { 0 } else { ip.number };
    (journey.first, journey.edge) = (u8::from(ip.part.is_first()), ip.part.edge());
    journey.fragment =
        FragmentKey::new(C::mapped(ip.source), C::mapped(ip.destination), ip.part.id(), protocol);
}

/// What became of the first of a later fragment's packet: a living backend got it, or from one a client did. What went into
/// the host, or is for nobody that we know, goes on into the host.
#[inline(always)]
pub(crate) fn first<C: Client>(journey: &Journey, ip: &Ip<C::Address>) -> Result<FragmentRecord, Outcome> {
    let tables = Tables::open().ok_or(Outcome::Unhandled)?;
    match maps::fragment(&journey.fragment).filter(|record| record.is_fresh(maps::now())) {
        Some(FragmentRecord { backend: 0, .. }) => Err(Outcome::Fragment),
        // It would write over what the first had, such as flags that somebody has judged (RFC 1858 §4, RFC 5722).
        Some(record) if ip.part.edge() < record.edge => Err(Outcome::OverlappingFragment),
        // Whether its connection stands is seen there.
        Some(record) if record.next == REPLY => Ok(record),
        Some(record)
            if tables
                .backend(record.backend)
                .is_some_and(|known| known.alive != 0 && known.service == record.service) =>
        {
            Ok(record)
        }
        _ if maps::is_vip(C::mapped(ip.destination)) => Err(Outcome::OrphanFragment),
        _ => Err(Outcome::Fragment),
    }
}

/// Remembers where a first fragment was sent. An ICMP error that was translated is no fragment any more.
#[inline(always)]
pub(crate) fn note_sent(journey: &Journey) {
    let next = next(journey);
    if next != DELIVER && journey.quoted != 0 {
        return;
    }
    let record = FragmentRecord {
        hash: journey.hash,
        backend: journey.backend,
        service: journey.service.id,
        port: u16::from_ne_bytes(journey.destination.port()),
        source_port: journey.port,
        protocol: journey.destination.protocol(),
        next,
        edge: journey.edge,
        ..NOBODYS
    };
    remember(journey, record);
}

const DELIVER: u8 = program(programs::DELIVER);
const NAT: u8 = program(programs::NAT);
const REPLY: u8 = program(programs::REPLY);

#[expect(clippy::cast_possible_truncation, reason = "there are few programs")]
const fn program(place: u32) -> u8 {
    place as u8
}

/// Which program goes on with the other fragments of a packet.
#[inline(always)]
const fn next(journey: &Journey) -> u8 {
    match (journey.is_reply, journey.service.flags & flag::NAT) {
        (0, 0) => DELIVER,
        (0, _) => NAT,
        _ => REPLY,
    }
}

/// Remembers a first fragment that goes into the host. Of one that is dropped the others are orphans.
#[inline(always)]
pub(crate) fn note_end<C: Client>(journey: &Journey, ip: &Ip<C::Address>, outcome: Outcome) {
    if let Verdict::Pass = outcome.verdict()
        && maps::is_vip(C::mapped(ip.destination))
    {
        remember(journey, NOBODYS);
    }
}

/// Of a packet that goes into the host, but for the time.
const NOBODYS: FragmentRecord = FragmentRecord {
    hash: 0,
    backend: 0,
    service: 0,
    seen: 0,
    port: 0,
    source_port: 0,
    protocol: 0,
    next: 0,
    edge: 0,
    reserved: 0,
};

#[inline(always)]
fn remember(journey: &Journey, record: FragmentRecord) {
    if journey.first != 0 && notes::writes() {
        maps::note_fragment(&journey.fragment, &FragmentRecord { seen: maps::now(), ..record });
    }
}
