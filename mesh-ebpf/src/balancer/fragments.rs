//! Fragments follow the first of their packet: to its backend, or into the host.

use crate::{client::Client, maps, parse::Ip, pipeline::Owner, tables::Tables};
use mesh_common::{
    fragment::{FragmentKey, FragmentRecord},
    icmp::ICMPV6,
    outcome::{Outcome, Verdict},
};

/// Whose a later fragment is: a living backend's that got the first. What went into the host, or is for nobody that we
/// know, goes on into the host.
#[inline(always)]
pub(crate) fn owner<C: Client>(tables: Tables, ip: &Ip<C::Address>, id: u32) -> Result<Owner, Outcome> {
    let found = maps::fragment(&key::<C>(ip, id)).filter(|record| record.is_fresh(maps::now()));
    match found {
        Some(FragmentRecord { backend: 0, .. }) => Err(Outcome::Fragment),
        Some(FragmentRecord { backend, service, hash, .. })
            if tables.backend(backend).is_some_and(|known| known.alive != 0 && known.service == service) =>
        {
            Ok(Owner { backend, service, hash, opened: false })
        }
        _ if maps::is_vip(C::mapped(ip.destination)) => Err(Outcome::OrphanFragment),
        _ => Err(Outcome::Fragment),
    }
}

/// Notes what became of a first fragment. One that was dropped is not noted: the others are dropped, too.
#[inline(always)]
pub(crate) fn note<C: Client>(ip: &Ip<C::Address>, end: &Result<(Outcome, Owner), Outcome>) {
    let Some(id) = ip.part.of_first() else { return };
    let record = FragmentRecord { seen: maps::now(), ..FragmentRecord::default() };
    let record = match end {
        Ok((_, owner)) => {
            FragmentRecord { backend: owner.backend, service: owner.service, hash: owner.hash, ..record }
        }
        Err(outcome) if is_passed(*outcome) && maps::is_vip(C::mapped(ip.destination)) => record,
        Err(_) => return,
    };
    maps::note_fragment(&key::<C>(ip, id), &record);
}

#[inline(always)]
const fn is_passed(outcome: Outcome) -> bool {
    matches!(outcome.verdict(), Verdict::Pass)
}

#[inline(always)]
fn key<C: Client>(ip: &Ip<C::Address>, id: u32) -> FragmentKey {
    let protocol = if C::ICMP == ICMPV6 { 0 } else { ip.number };
    FragmentKey::new(C::mapped(ip.source), C::mapped(ip.destination), id, protocol)
}
