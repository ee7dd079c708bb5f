//! Failures that have one cause: pure.
//!
//! When the probes of many backends begin to fail at about the same time, it is likelier that something between is broken
//! (this host's uplink, a rack's switch) than each of them by itself. That is one incident, with the broadest cause that
//! explains it.
//!
//! Invariants: a backend is held only if it was up when its failures began, and never longer than the rules say from the
//! incident's begin; what an incident has let go is not held again until a probe has succeeded; nobody is in two. A failure that is alone is
//! none of an incident's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{Key, State};
use crate::config::{Correlated, OnCorrelated};

/// Bits of the prefix that neighbours share, IPv4 and IPv6.
const PREFIXES: [u8; 2] = [24, 64];

/// What is known of a probed backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// What its probes say.
    pub state: State,
    /// When the first of its present failures in a row was.
    pub failing: Option<Instant>,
    /// The interface towards it, if there is a way.
    pub interface: Option<u32>,
}

/// What backends that fail together have in common, the broadest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// All that are probed.
    All,
    /// The interface that leads to them.
    Interface(u32),
    /// The network that they are in.
    Prefix(IpNet),
}

/// Backends that fail together. One address is one backend here, however many services it stands behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What they have in common.
    pub cause: Cause,
    /// When it was noticed.
    pub began: Instant,
    /// When the first of their failures was.
    pub since: Instant,
    /// Who fails still.
    pub failing: BTreeSet<IpAddr>,
    /// How many failed at most.
    pub most: usize,
    /// How many there were that might have.
    pub of: usize,
}

/// What happened to an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It began.
    Began(Incident),
    /// Most answer again; the others are what their probes say.
    Recovered(Incident),
    /// It took longer than backends are held.
    Expired(Incident),
}

/// Tells incidents from single failures.
#[derive(Debug, Clone)]
pub struct Correlator {
    rules: Correlated,
    incidents: Vec<Incident>,
    /// Who fails still and is none of an incident's any more.
    released: BTreeSet<IpAddr>,
    /// Who was up before the present failures, if it fails.
    was_up: BTreeSet<Key>,
    /// Who is held, or was until it was up again.
    stayed: BTreeSet<Key>,
}

/// An address, over all services that it stands behind.
#[derive(Debug, Clone, Copy)]
struct Host {
    /// Since when all of its probes fail.
    failing: Option<Instant>,
    is_down: bool,
    interface: Option<u32>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all together"),
            Self::Interface(index) => match nix::net::if_::if_indextoname(*index) {
                Ok(name) => write!(f, "those by {}", name.to_string_lossy()),
                Err(_) => write!(f, "those by the interface with index {index}"),
            },
            Self::Prefix(prefix) => write!(f, "those in {prefix}"),
        }
    }
}

impl Cause {
    /// What a host has in common with others.
    fn of(address: IpAddr, host: &Host) -> [Option<Self>; 3] {
        let [v4, v6] = PREFIXES;
        let length = if address.is_ipv4() { v4 } else { v6 };
        let prefix = IpNet::new(address, length).ok().map(|prefix| Self::Prefix(prefix.trunc()));
        [Some(Self::All), host.interface.map(Self::Interface), prefix]
    }
}

impl Correlator {
    /// Knows of nothing yet.
    #[must_use]
    pub fn new(rules: Correlated) -> Self {
        Self {
            rules,
            incidents: Vec::new(),
            released: BTreeSet::new(),
            was_up: BTreeSet::new(),
            stayed: BTreeSet::new(),
        }
    }

    /// The incidents that last.
    #[must_use]
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// Takes in what is known now, and says what happened. Probes of one outage may begin to fail as far apart as `window`,
    /// or as the rules say if that is more.
    pub fn judge(&mut self, now: Instant, facts: &BTreeMap<Key, Fact>, window: Duration) -> Vec<Event> {
        self.remember(facts);
        let hosts = hosts(facts);
        self.released.retain(|address| fails(&hosts, address));
        let mut events = self.go_on(now, &hosts);
        while let Some(incident) = self.find(now, &hosts, window.max(self.rules.window)) {
            events.push(Event::Began(incident.clone()));
            self.incidents.push(incident);
        }
        self.stayed.retain(|key| facts.get(key).is_some_and(|fact| fact.state == State::Up));
        let down = facts.iter().filter(|(_, fact)| fact.state == State::Down).map(|(key, _)| *key);
        let held: Vec<_> = down.filter(|key| self.holds(key)).collect();
        self.stayed.extend(held);
        events
    }

    /// Whether a backend counts as up all the time: it is held, or it was and is up again.
    #[must_use]
    pub fn stayed(&self, key: &Key) -> bool {
        self.stayed.contains(key)
    }

    /// Whether a backend that is down stays what it was: up.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.rules.action == OnCorrelated::Hold
            && self.was_up.contains(key)
            && self.incidents.iter().any(|incident| incident.failing.contains(&key.address))
    }

    fn remember(&mut self, facts: &BTreeMap<Key, Fact>) {
        self.was_up.retain(|key| facts.contains_key(key));
        for (key, fact) in facts {
            match (fact.state, fact.failing) {
                (State::Up, _) => self.was_up.insert(*key),
                (State::Down, Some(_)) => false,
                (State::Down, None) | (State::Unknown, _) => self.was_up.remove(key),
            };
        }
    }

    /// Takes who fails and who does not any more into the incidents that last, and ends those that are over.
    fn go_on(&mut self, now: Instant, hosts: &BTreeMap<IpAddr, Host>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut taken: BTreeSet<_> = self.incidents.iter().flat_map(|it| it.failing.clone()).collect();
        for mut incident in std::mem::take(&mut self.incidents) {
            incident.failing.retain(|address| fails(hosts, address));
            let joins = |(address, host): &(&IpAddr, &Host)| {
                host.failing.is_some_and(|failing| failing >= incident.since)
                    && Cause::of(**address, host).contains(&Some(incident.cause))
                    && !self.released.contains(address)
                    && !taken.contains(address)
            };
            let joined: Vec<_> = hosts.iter().filter(joins).map(|(address, _)| *address).collect();
            taken.extend(&joined);
            incident.failing.extend(joined);
            incident.most = incident.most.max(incident.failing.len());
            let is_expired = now.saturating_duration_since(incident.began) >= self.rules.hold_for;
            if !is_expired && incident.failing.len() * 2 > incident.most {
                self.incidents.push(incident);
                continue;
            }
            self.released.extend(&incident.failing);
            self.was_up.retain(|key| !incident.failing.contains(&key.address));
            events.push(if is_expired { Event::Expired(incident) } else { Event::Recovered(incident) });
        }
        events
    }

    /// The next incident, with the broadest cause that explains it.
    fn find(&self, now: Instant, hosts: &BTreeMap<IpAddr, Host>, window: Duration) -> Option<Incident> {
        let is_taken = |address: &IpAddr| {
            self.released.contains(address) || self.incidents.iter().any(|it| it.failing.contains(address))
        };
        let mut groups: BTreeMap<Cause, Vec<(IpAddr, &Host)>> = BTreeMap::new();
        for (address, host) in hosts.iter().filter(|(address, _)| !is_taken(address)) {
            for cause in Cause::of(*address, host).into_iter().flatten() {
                groups.entry(cause).or_default().push((*address, host));
            }
        }
        groups.into_iter().find_map(|(cause, group)| {
            let (since, failing) = self.together(&group, window)?;
            let most = failing.len();
            Some(Incident { cause, began: now, since, failing, most, of: group.len() })
        })
    }

    /// Those of a group that began to fail within one window, if they are enough and one of them is down by now.
    fn together(&self, group: &[(IpAddr, &Host)], window: Duration) -> Option<(Instant, BTreeSet<IpAddr>)> {
        let mut failures: Vec<_> = group
            .iter()
            .filter_map(|(address, host)| Some((host.failing?, host.is_down, *address)))
            .collect();
        failures.sort_unstable();
        let is_enough = |count: usize| {
            count >= self.rules.least && count * 100 >= usize::from(self.rules.share) * group.len()
        };
        (0..failures.len()).find_map(|begin| {
            let from = failures.get(begin..)?;
            let (first, ..) = from.first()?;
            let end = from.partition_point(|(at, ..)| at.saturating_duration_since(*first) <= window);
            let together = from.get(..end)?;
            let any_down = || together.iter().any(|(_, is_down, _)| *is_down);
            let addresses = || together.iter().map(|(.., address)| *address).collect();
            (is_enough(end) && any_down()).then(|| (*first, addresses()))
        })
    }
}

fn fails(hosts: &BTreeMap<IpAddr, Host>, address: &IpAddr) -> bool {
    hosts.get(address).is_some_and(|host| host.failing.is_some())
}

/// One host for each address; it fails if all of its probes do, of which the last to begin counts.
fn hosts(facts: &BTreeMap<Key, Fact>) -> BTreeMap<IpAddr, Host> {
    let mut hosts = BTreeMap::new();
    for (key, fact) in facts.iter().filter(|(_, fact)| fact.state != State::Unknown) {
        let is_down = fact.state == State::Down;
        let new = Host { failing: fact.failing, is_down, interface: fact.interface };
        let host = hosts.entry(key.address).or_insert(new);
        host.failing = host.failing.zip(fact.failing).map(|(one, other)| one.max(other));
        host.is_down |= is_down;
    }
    hosts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Protocol, ServiceKey};

    const WINDOW: Duration = Duration::from_secs(1);

    fn rules() -> Correlated {
        Correlated { action: OnCorrelated::Hold, ..Correlated::default() }
    }

    fn key(port: u16, address: IpAddr) -> Key {
        Key { service: ServiceKey::exact([192, 0, 2, 1].into(), port, Protocol::Tcp), address }
    }

    fn host(rack: u8, number: u8) -> IpAddr {
        [10, 0, rack, number].into()
    }

    /// Two racks of five hosts each, of which the second is reached by another interface.
    struct Farm {
        correlator: Correlator,
        facts: BTreeMap<Key, Fact>,
        begin: Instant,
    }

    impl Farm {
        fn new() -> Self {
            let begin = Instant::now();
            let fact = |rack: u8| Fact { state: State::Up, failing: None, interface: Some(rack.into()) };
            let hosts = [1, 2].into_iter().flat_map(|rack| (1..=5).map(move |number| (rack, number)));
            let facts = hosts.map(|(rack, number)| (key(80, host(rack, number)), fact(rack))).collect();
            let mut farm = Self { correlator: Correlator::new(rules()), facts, begin };
            assert_eq!(farm.at(0), vec![]);
            farm
        }

        fn at(&mut self, seconds: u64) -> Vec<Event> {
            self.correlator.judge(self.begin + Duration::from_secs(seconds), &self.facts, WINDOW)
        }

        fn fail(&mut self, seconds: u64, failing: impl Fn(u8, u8) -> bool) {
            let at = self.begin + Duration::from_secs(seconds);
            for rack in [1, 2] {
                for number in 1..=5 {
                    let fact = self.facts.get_mut(&key(80, host(rack, number))).unwrap();
                    if failing(rack, number) {
                        (fact.state, fact.failing) = (State::Down, Some(fact.failing.unwrap_or(at)));
                    } else {
                        (fact.state, fact.failing) = (State::Up, None);
                    }
                }
            }
        }

        fn held(&self) -> usize {
            self.facts.keys().filter(|key| self.correlator.holds(key)).count()
        }
    }

    fn cause(events: &[Event]) -> Cause {
        let [Event::Began(incident)] = events else { panic!("{events:?}") };
        incident.cause
    }

    #[test]
    fn when_all_fail_at_once_it_is_one_event_and_all_are_held() {
        let mut farm = Farm::new();
        farm.fail(1, |_, _| true);
        assert_eq!(cause(&farm.at(3)), Cause::All);
        assert_eq!((farm.held(), farm.at(4)), (10, vec![]));
    }

    #[test]
    fn a_common_interface_or_network_is_named() {
        let mut farm = Farm::new();
        farm.fail(1, |rack, _| rack == 2);
        assert_eq!(cause(&farm.at(3)), Cause::Interface(2));
        assert_eq!(farm.held(), 5);
        let mut farm = Farm::new();
        farm.facts.values_mut().for_each(|fact| fact.interface = Some(7));
        farm.fail(1, |rack, _| rack == 1);
        assert_eq!(cause(&farm.at(3)).to_string(), "those in 10.0.1.0/24");
    }

    #[test]
    fn single_failures_are_followed_at_once() {
        let mut farm = Farm::new();
        farm.fail(1, |rack, number| (rack, number) == (1, 1));
        assert_eq!((farm.at(1), farm.held()), (vec![], 0));
        farm.fail(30, |rack, number| rack == 1 && number <= 2);
        assert_eq!((farm.at(30), farm.held()), (vec![], 0));
    }

    #[test]
    fn failures_one_after_the_other_are_no_incident() {
        let mut farm = Farm::new();
        for number in 1..=5 {
            let seconds = 60 * u64::from(number);
            farm.fail(seconds, |rack, other| rack == 1 && other <= number);
            assert_eq!((farm.at(seconds), farm.held()), (vec![], 0));
        }
    }

    #[test]
    fn what_is_not_down_yet_is_no_event() {
        let mut farm = Farm::new();
        farm.fail(1, |_, _| true);
        farm.facts.values_mut().for_each(|fact| fact.state = State::Up);
        assert_eq!(farm.at(1), vec![]);
        farm.facts.values_mut().next().unwrap().state = State::Down;
        assert_eq!(cause(&farm.at(2)), Cause::All);
    }

    #[test]
    fn it_ends_when_most_answer_again_and_the_others_are_down() {
        let mut farm = Farm::new();
        farm.fail(1, |_, _| true);
        farm.at(1);
        farm.fail(9, |rack, number| (rack, number) == (1, 1));
        let events = farm.at(9);
        assert!(matches!(events.as_slice(), [Event::Recovered(it)] if it.failing.len() == 1), "{events:?}");
        assert_eq!((farm.held(), farm.at(10)), (0, vec![]));
    }

    #[test]
    fn it_ends_after_a_while_and_does_not_begin_again_with_the_same_failures() {
        let mut farm = Farm::new();
        farm.fail(1, |_, _| true);
        farm.at(1);
        let end = 1 + rules().hold_for.as_secs();
        assert_eq!((farm.at(end - 1), farm.held()), (vec![], 10));
        assert!(matches!(farm.at(end).as_slice(), [Event::Expired(_)]));
        assert_eq!((farm.held(), farm.at(end + 1)), (0, vec![]));
        // After they were well, the next outage is another one.
        farm.fail(end + 2, |_, _| false);
        assert_eq!(farm.at(end + 2), vec![]);
        farm.fail(end + 9, |_, _| true);
        assert_eq!(cause(&farm.at(end + 9)), Cause::All);
        assert_eq!(farm.held(), 10);
    }

    #[test]
    fn a_backend_that_was_down_before_is_not_held() {
        let mut farm = Farm::new();
        farm.fail(1, |rack, number| (rack, number) == (1, 1));
        farm.at(1);
        let lame = key(80, host(1, 1));
        // It answers once, and fails with the others before it is up.
        farm.facts.get_mut(&lame).unwrap().failing = None;
        farm.at(2);
        farm.fail(5, |_, _| true);
        assert_eq!(cause(&farm.at(5)), Cause::All);
        assert_eq!((farm.held(), farm.correlator.holds(&lame)), (9, false));
    }

    #[test]
    fn a_backend_that_died_before_the_others_stays_down() {
        let mut farm = Farm::new();
        farm.fail(1, |rack, number| (rack, number) == (1, 1));
        farm.at(1);
        farm.fail(100, |_, _| true);
        assert_eq!(cause(&farm.at(100)), Cause::All);
        assert_eq!((farm.at(101), farm.held()), (vec![], 9));
        assert!(!farm.correlator.holds(&key(80, host(1, 1))));
    }

    #[test]
    fn who_was_held_until_it_was_up_was_never_away() {
        let mut farm = Farm::new();
        farm.fail(1, |_, _| true);
        farm.at(1);
        let stayed = |farm: &Farm| farm.facts.keys().filter(|key| farm.correlator.stayed(key)).count();
        assert_eq!(stayed(&farm), 10);
        farm.fail(5, |_, number| number == 1);
        farm.at(5);
        assert_eq!(stayed(&farm), 8, "two are down now");
        farm.fail(9, |_, _| false);
        farm.at(9);
        assert_eq!(stayed(&farm), 8, "these came back as others do");
    }

    #[test]
    fn an_address_that_answers_for_one_service_does_not_fail() {
        let mut farm = Farm::new();
        let well = Fact { state: State::Up, failing: None, interface: Some(1) };
        for number in 1..=5 {
            farm.facts.insert(key(443, host(1, number)), well);
            farm.facts.insert(key(443, host(2, number)), well);
        }
        farm.fail(1, |_, _| true);
        assert_eq!((farm.at(1), farm.held()), (vec![], 0), "a service fails, and not the way");
    }

    #[test]
    fn to_follow_is_to_tell_and_to_hold_nobody() {
        let mut farm = Farm::new();
        farm.correlator.rules.action = OnCorrelated::Follow;
        farm.fail(1, |_, _| true);
        assert_eq!(cause(&farm.at(1)), Cause::All);
        assert_eq!(farm.held(), 0);
    }

    /// Of each of ten hosts, in each second: whether its probe fails.
    fn outages() -> impl Strategy<Value = Vec<[bool; 10]>> {
        proptest::collection::vec(any::<[bool; 10]>(), 1..60)
    }

    proptest! {
        #[test]
        fn holding_is_bounded_and_only_for_who_fails_and_was_up(seconds in outages()) {
            let mut farm = Farm::new();
            farm.correlator.rules.hold_for = Duration::from_secs(7);
            let mut held_for = BTreeMap::<Key, u64>::new();
            for (second, fails) in (1u64..).zip(seconds) {
                farm.fail(second, |rack, number| fails[usize::from((rack - 1) * 5 + number - 1)]);
                farm.at(second);
                for (key, fact) in &farm.facts {
                    if !farm.correlator.holds(key) {
                        held_for.remove(key);
                        continue;
                    }
                    prop_assert!(fact.failing.is_some(), "held without need");
                    let held = held_for.entry(*key).or_insert(second);
                    prop_assert!(second - *held < 7);
                }
                for incident in farm.correlator.incidents() {
                    prop_assert!(incident.most >= farm.correlator.rules.least);
                    prop_assert!(incident.failing.len() * 2 > incident.most);
                }
                let all: Vec<_> = farm.correlator.incidents().iter().flat_map(|it| &it.failing).collect();
                prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
                let released = &farm.correlator.released;
                prop_assert!(all.iter().all(|address| !released.contains(*address)));
            }
        }

        #[test]
        fn fewer_than_the_least_never_make_an_incident(seconds in outages()) {
            let mut farm = Farm::new();
            farm.correlator.rules.least = 4;
            for (second, fails) in (1u64..).zip(seconds) {
                farm.fail(second, |rack, number| number == 1 && fails[usize::from(rack)] || (rack, number) == (1, 2));
                prop_assert_eq!(farm.at(second), vec![]);
            }
        }
    }
}
