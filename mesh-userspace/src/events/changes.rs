//! What has changed between what was desired and what is now: a pure function.

use super::{Happening, Kind, some_of};
use crate::{
    config::ServiceKey,
    desired::{Backend, Desired, Role, Service},
    health,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// So many backends of a service that change alike are told one by one; more of them together.
const APART: usize = 8;

/// Why backends are as they are.
pub trait Reasons {
    /// Why a backend is down; none if nobody knows.
    fn down(&self, backend: &health::Key) -> Option<String>;
    /// Why a backend gets no new flows for a while; none if nobody knows.
    fn ejected(&self, backend: &health::Key) -> Option<String>;
    /// Why there is no way to an address; none if nobody knows.
    fn unreached(&self, address: IpAddr) -> Option<String>;
}

/// All that has changed.
#[must_use]
pub fn changes(before: &Desired, after: &Desired, reasons: &impl Reasons) -> Vec<Happening> {
    let mut happenings = Vec::new();
    for (key, service) in &before.services {
        if !after.services.contains_key(key) {
            happenings.push(Happening::new(Kind::Service, "was removed").of(&service.name));
        }
    }
    for (key, service) in &after.services {
        match before.services.get(key) {
            Some(known) if known == service => {}
            Some(known) => {
                happenings.extend(panic(known, service));
                happenings.extend(backends(*key, known, service, reasons));
            }
            None => happenings.push(added(service)),
        }
    }
    happenings
}

fn added(service: &Service) -> Happening {
    let (taking, all) = (service.shares().len(), service.backends.len());
    let message = format!("was added, {taking} of {all} backends take new flows");
    Happening::new(Kind::Service, message).of(&service.name)
}

fn panic(before: &Service, after: &Service) -> Option<Happening> {
    let message = match (before.panic, after.panic) {
        (false, true) => "too few backends are healthy, all of them are used",
        (true, false) => "enough backends are healthy again",
        (false, false) | (true, true) => return None,
    };
    Some(Happening::new(Kind::Service, message).of(&after.name))
}

/// What happened to a backend, without its reason.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    kind: Kind,
    what: String,
}

/// Backends that took the same turn, and why.
type Turns = BTreeMap<Turn, Vec<(IpAddr, Option<String>)>>;

fn backends(key: ServiceKey, before: &Service, after: &Service, reasons: &impl Reasons) -> Vec<Happening> {
    let mut turns = Turns::new();
    let mut turn = |kind, what: &str, address, why| {
        turns.entry(Turn { kind, what: what.to_owned() }).or_default().push((address, why));
    };
    let addresses: BTreeSet<&IpAddr> = before.backends.keys().chain(after.backends.keys()).collect();
    for address in addresses {
        let (was, is) = match (before.backends.get(address), after.backends.get(address)) {
            (Some(was), Some(is)) => (was, is),
            (None, Some(_)) => {
                turn(Kind::Backend, "was added", *address, None);
                continue;
            }
            (Some(_), None) => {
                turn(Kind::Backend, "was removed", *address, None);
                continue;
            }
            (None, None) => continue,
        };
        if let Some(what) = role(was.role, is.role) {
            let backend = health::Key { service: key, address: *address };
            let why = why(is.role, &backend, reasons);
            turn(Kind::Backend, what, *address, why);
        }
        if let Some(what) = weight(was, is) {
            turn(Kind::Backend, &what, *address, None);
        }
        if let Some(what) = way(was, is) {
            let why = is.next_hop.is_none().then(|| reasons.unreached(*address)).flatten();
            turn(Kind::NextHop, what, *address, why);
        }
    }
    turns.into_iter().flat_map(|(turn, who)| told(&after.name, &turn, who)).collect()
}

fn why(role: Role, backend: &health::Key, reasons: &impl Reasons) -> Option<String> {
    match role {
        Role::Down => reasons.down(backend),
        Role::Ejected => reasons.ejected(backend),
        Role::Active | Role::Draining | Role::Standby | Role::Unknown => None,
    }
}

const fn role(was: Role, is: Role) -> Option<&'static str> {
    match (was, is) {
        // Probes that are new have not spoken yet.
        (_, Role::Unknown)
        | (Role::Active, Role::Active)
        | (Role::Draining, Role::Draining)
        | (Role::Standby, Role::Standby)
        | (Role::Ejected, Role::Ejected)
        | (Role::Down, Role::Down) => None,
        (_, Role::Down) => Some("went down"),
        (_, Role::Draining) => Some("takes no new flows: it drains"),
        (_, Role::Standby) => Some("stands by"),
        (_, Role::Ejected) => Some("is ejected: it takes no new flows for a while"),
        (Role::Draining | Role::Ejected, Role::Active) => Some("takes new flows again"),
        (Role::Standby, Role::Active) => Some("takes over"),
        (Role::Unknown | Role::Down, Role::Active) => Some("came up"),
    }
}

fn weight(was: &Backend, is: &Backend) -> Option<String> {
    let is_told = was.whole != is.whole && was.whole > 0 && is.whole > 0;
    is_told.then(|| format!("has weight {} instead of {}", is.whole, was.whole))
}

fn way(was: &Backend, is: &Backend) -> Option<&'static str> {
    match (was.next_hop, is.next_hop) {
        (None, Some(_)) => Some("can be reached"),
        (Some(_), None) => Some("cannot be reached"),
        (Some(was), Some(is)) if was != is => Some("is reached by another way"),
        (None, None) | (Some(_), Some(_)) => None,
    }
}

fn told(service: &str, turn: &Turn, who: Vec<(IpAddr, Option<String>)>) -> Vec<Happening> {
    let because = |why: Option<&String>| why.map(|why| format!(": {why}")).unwrap_or_default();
    let happening = |message| Happening::new(turn.kind, message).of(service);
    if who.len() <= APART {
        let one = |(address, why): (IpAddr, Option<String>)| {
            happening(format!("{}{}", turn.what, because(why.as_ref()))).at(address)
        };
        return who.into_iter().map(one).collect();
    }
    let names: Vec<IpAddr> = who.iter().map(|(address, _)| *address).collect();
    let why = because(who.first().and_then(|(_, why)| why.as_ref()));
    let message = format!("each of {} backends {}: {}{why}", who.len(), turn.what, some_of(&names));
    vec![happening(message)]
}
