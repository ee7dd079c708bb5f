//! Backends that fail clients, whatever their probes say: from what connections came to, to who gets no new ones for a
//! while. Pure; time is an argument.
//!
//! Invariants: who is not judged by enough connections stays; no more are ejected at a time than the share allows, and
//! never all; each comes back by itself, and is then judged by what it does from then on.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Key;
use crate::config::{Passive, ServiceKey};

/// The parts of a window: one that is over is forgotten as a whole.
const PARTS: u32 = 10;

/// What became of a backend's connections, ever since it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that clients opened.
    pub opened: u64,
    /// Those that it refused.
    pub refused: u64,
    /// Those that it does not answer, or never did. Fewer once it answers late.
    pub silent: u64,
}

impl Tally {
    /// What was added since then.
    const fn since(self, then: Self) -> Self {
        Self {
            opened: self.opened.saturating_sub(then.opened),
            refused: self.refused.saturating_sub(then.refused),
            silent: self.silent.saturating_sub(then.silent),
        }
    }

    const fn failed(self) -> u64 {
        self.refused.saturating_add(self.silent)
    }

    /// Percent of the connections that failed; more than 100 where they were opened earlier.
    fn percent(self) -> u64 {
        self.failed().saturating_mul(100).checked_div(self.opened).unwrap_or(0)
    }
}

/// A backend that gets no new connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// When that ends.
    pub until: Instant,
    /// Why, for people.
    pub reason: String,
}

/// Who gets no new connections, of all services.
#[derive(Debug, Clone, Default)]
pub struct Outliers {
    services: BTreeMap<ServiceKey, BTreeMap<IpAddr, Backend>>,
}

#[derive(Debug, Clone, Default)]
struct Backend {
    /// What was known at the beginnings of the window's parts.
    past: VecDeque<(Instant, Tally)>,
    out: Option<Ejection>,
    /// When it came back last.
    returned: Option<Instant>,
    /// How often it was ejected in a row.
    row: u32,
    /// How often, ever.
    times: u64,
}

impl Outliers {
    /// Why a backend gets no new connections; none if it does.
    #[must_use]
    pub fn of(&self, key: &Key) -> Option<&Ejection> {
        self.backend(key)?.out.as_ref()
    }

    /// How often a backend was ejected.
    #[must_use]
    pub fn times(&self, key: &Key) -> u64 {
        self.backend(key).map_or(0, |backend| backend.times)
    }

    fn backend(&self, key: &Key) -> Option<&Backend> {
        self.services.get(&key.service)?.get(&key.address)
    }

    /// Forgets services that are not meant any more, and answers whether somebody comes back by that.
    pub fn keep(&mut self, is_meant: impl Fn(&ServiceKey) -> bool) -> bool {
        let out = |service: &BTreeMap<IpAddr, Backend>| service.values().any(|backend| backend.out.is_some());
        let mut returned = false;
        self.services.retain(|key, service| {
            returned |= !is_meant(key) && out(service);
            is_meant(key)
        });
        returned
    }

    /// Learns what connections to all backends of a service have come to, none for those that are out of use for another
    /// reason, and answers whether somebody is ejected or comes back.
    pub fn learn(
        &mut self,
        service: ServiceKey,
        rules: Passive,
        tallies: &BTreeMap<IpAddr, Option<Tally>>,
        now: Instant,
    ) -> bool {
        let backends = self.services.entry(service).or_default();
        backends.retain(|address, _| tallies.contains_key(address));
        let mut changed = false;
        for (address, tally) in tallies {
            changed |= backends.entry(*address).or_default().learn(*tally, rules, now);
        }
        let used = tallies.values().flatten().count();
        let most = (used * usize::from(rules.share) / 100).min(used.saturating_sub(1));
        changed | release(backends, most, now) | eject(backends, tallies, rules, most, now)
    }
}

/// Lets those come back, the longest ejected first, who are too many.
fn release(backends: &mut BTreeMap<IpAddr, Backend>, most: usize, now: Instant) -> bool {
    let mut out: Vec<&mut Backend> = backends.values_mut().filter(|backend| backend.out.is_some()).collect();
    out.sort_by_key(|backend| backend.out.as_ref().map(|ejection| ejection.until));
    let excess = out.len().saturating_sub(most);
    out.into_iter().take(excess).for_each(|backend| backend.come_back(now));
    excess > 0
}

/// Ejects those that fail too much, the worst first, as long as they are not too many.
fn eject(
    backends: &mut BTreeMap<IpAddr, Backend>,
    tallies: &BTreeMap<IpAddr, Option<Tally>>,
    rules: Passive,
    most: usize,
    now: Instant,
) -> bool {
    let room = most.saturating_sub(backends.values().filter(|backend| backend.out.is_some()).count());
    let mut failing: Vec<(Tally, &mut Backend)> = backends
        .iter_mut()
        .filter_map(|(address, backend)| {
            let tally = (*tallies.get(address)?)?;
            Some((backend.verdict(tally, rules)?, backend))
        })
        .collect();
    failing.sort_by_key(|(recent, _)| std::cmp::Reverse(recent.percent()));
    let chosen = failing.into_iter().take(room);
    chosen.map(|(recent, backend)| backend.go(recent, rules, now)).count() > 0
}

impl Backend {
    /// Goes with the time, and answers whether it comes back.
    fn learn(&mut self, tally: Option<Tally>, rules: Passive, now: Instant) -> bool {
        if let Some(ejection) = &self.out {
            let is_over = now >= ejection.until;
            if is_over {
                self.come_back(now);
            }
            return is_over;
        }
        let is_forgiven =
            self.returned.is_some_and(|returned| now.saturating_duration_since(returned) >= rules.longest);
        if is_forgiven {
            (self.row, self.returned) = (0, None);
        }
        match tally {
            None => self.past.clear(),
            Some(tally) => self.note(tally, rules.window, now),
        }
        false
    }

    fn note(&mut self, tally: Tally, window: Duration, now: Instant) {
        // Another has its counters.
        if self.past.back().is_some_and(|(_, known)| tally.opened < known.opened) {
            self.past.clear();
        }
        let age = |at: Instant| now.saturating_duration_since(at);
        while self.past.get(1).is_some_and(|(at, _)| age(*at) >= window) {
            self.past.pop_front();
        }
        if self.past.back().is_none_or(|(at, _)| age(*at) >= window / PARTS) {
            self.past.push_back((now, tally));
        }
    }

    /// What it did lately, if that is enough to be ejected.
    fn verdict(&self, tally: Tally, rules: Passive) -> Option<Tally> {
        let (_, then) = self.past.front().filter(|_| self.out.is_none())?;
        let recent = tally.since(*then);
        let fails = recent.opened >= u64::from(rules.least) && recent.percent() >= u64::from(rules.failed);
        fails.then_some(recent)
    }

    fn go(&mut self, recent: Tally, rules: Passive, now: Instant) {
        let hold = rules.hold.saturating_mul(2_u32.saturating_pow(self.row)).min(rules.longest);
        let Tally { opened, refused, silent } = recent;
        let reason = format!("of {opened} new connections it refused {refused} and did not answer {silent}");
        self.out = Some(Ejection { until: now + hold, reason });
        (self.row, self.times) = (self.row.saturating_add(1), self.times + 1);
    }

    fn come_back(&mut self, now: Instant) {
        (self.out, self.returned) = (None, Some(now));
        self.past.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Ports, Protocol};

    const RULES: Passive = Passive {
        failed: 50,
        least: 5,
        window: Duration::from_secs(30),
        hold: Duration::from_secs(10),
        longest: Duration::from_secs(35),
        share: 50,
    };

    fn service() -> ServiceKey {
        ServiceKey { vip: "192.0.2.1/32".parse().unwrap(), ports: Ports::one(80), protocol: Protocol::Tcp }
    }

    /// A service whose backends are fed and watched, a second at a time.
    struct World {
        outliers: Outliers,
        now: Instant,
        rules: Passive,
        tallies: BTreeMap<IpAddr, Option<Tally>>,
    }

    fn address(nth: u8) -> IpAddr {
        [10, 0, 0, nth].into()
    }

    impl World {
        fn new(backends: u8) -> Self {
            let tallies = (1..=backends).map(|nth| (address(nth), Some(Tally::default()))).collect();
            let mut world =
                Self { outliers: Outliers::default(), now: Instant::now(), rules: RULES, tallies };
            world.pass(1);
            world
        }

        fn add(&mut self, nth: u8, opened: u64, refused: u64, silent: u64) {
            let tally = self.tallies.get_mut(&address(nth)).unwrap().as_mut().unwrap();
            let Tally { opened: all, refused: no, silent: nothing } = *tally;
            *tally = Tally { opened: all + opened, refused: no + refused, silent: nothing + silent };
        }

        /// Seconds pass; who is out then.
        fn pass(&mut self, seconds: u32) -> Vec<u8> {
            for _ in 0..seconds {
                self.now += Duration::from_secs(1);
                let before = self.out();
                let changed = self.outliers.learn(service(), self.rules, &self.tallies, self.now);
                assert_eq!(changed, before != self.out());
            }
            self.out()
        }

        fn out(&self) -> Vec<u8> {
            let key = |nth: &u8| Key { service: service(), address: address(*nth) };
            (1..=9).filter(|nth| self.outliers.of(&key(nth)).is_some()).collect()
        }

        /// Seconds until nobody is out.
        fn hold(&mut self) -> u32 {
            (1..1000).find(|_| self.pass(1).is_empty()).unwrap()
        }
    }

    #[test]
    fn who_refuses_or_does_not_answer_is_ejected_and_comes_back() {
        for (refused, silent) in [(5, 0), (0, 5), (2, 3)] {
            let mut world = World::new(3);
            (1..=3).for_each(|nth| world.add(nth, 5, 0, 0));
            world.add(2, 5, refused, silent);
            assert_eq!(world.pass(1), [2]);
            let ejection = world.outliers.of(&Key { service: service(), address: address(2) }).unwrap();
            let reason = format!("of 10 new connections it refused {refused} and did not answer {silent}");
            assert_eq!((ejection.reason.as_str(), ejection.until), (reason.as_str(), world.now + RULES.hold));
            assert_eq!(world.hold(), 10);
            assert_eq!(world.pass(60), [] as [u8; 0], "what it did before is not held against it");
        }
    }

    #[test]
    fn few_connections_and_few_failures_say_nothing() {
        for (opened, refused) in [(4, 4), (100, 49), (0, 100)] {
            let mut world = World::new(2);
            world.add(1, opened, refused, 0);
            assert_eq!(world.pass(20), [] as [u8; 0]);
        }
    }

    #[test]
    fn what_is_longer_ago_than_the_window_is_forgotten() {
        let mut world = World::new(2);
        world.add(1, 4, 4, 0);
        world.pass(40);
        world.add(1, 2, 0, 0);
        assert_eq!(world.pass(1), [] as [u8; 0]);
        world.add(1, 3, 3, 0);
        assert_eq!(world.pass(1), [1]);
    }

    #[test]
    fn late_answers_are_answers() {
        let mut world = World::new(2);
        world.add(1, 3, 0, 3);
        world.pass(1);
        let tally = world.tallies.get_mut(&address(1)).unwrap().as_mut().unwrap();
        tally.silent = 0;
        world.add(1, 3, 0, 0);
        assert_eq!(world.pass(1), [] as [u8; 0]);
    }

    #[test]
    fn who_fails_again_is_held_for_twice_as_long_until_it_does_well() {
        let mut world = World::new(2);
        let fail = |world: &mut World| {
            world.pass(1);
            world.add(1, 9, 9, 0);
            assert_eq!(world.pass(1), [1]);
            world.hold()
        };
        assert_eq!([(); 4].map(|()| fail(&mut world)), [10, 20, 35, 35]);
        world.pass(36);
        assert_eq!(fail(&mut world), 10);
        assert_eq!(world.outliers.times(&Key { service: service(), address: address(1) }), 5);
    }

    #[test]
    fn half_of_them_go_the_worst_first_and_the_last_never() {
        for (backends, share, expected) in
            [(1, 100, vec![]), (2, 100, vec![2]), (3, 50, vec![3]), (4, 50, vec![3, 4]), (5, 1, vec![])]
        {
            let mut world = World::new(backends);
            world.rules.share = share;
            (1..=backends).for_each(|nth| world.add(nth, 10, 5 + u64::from(nth), 0));
            assert_eq!(world.pass(1), expected, "{share} % of {backends}");
        }
    }

    #[test]
    fn who_is_ejected_comes_back_when_the_others_go() {
        let mut world = World::new(4);
        (3..=4).for_each(|nth| world.add(nth, 10, 10, 0));
        assert_eq!(world.pass(1), [3, 4]);
        world.tallies.insert(address(1), None);
        world.tallies.insert(address(2), None);
        assert_eq!(world.pass(1).len(), 1);
        world.tallies.remove(&address(1));
        world.tallies.remove(&address(2));
        world.tallies.remove(&address(3));
        assert_eq!(world.pass(1), [] as [u8; 0]);
    }

    #[test]
    fn another_backend_with_the_same_address_is_not_judged_by_the_one_before() {
        let mut world = World::new(2);
        world.add(1, 100, 0, 0);
        world.pass(1);
        world.tallies.insert(address(1), Some(Tally { opened: 4, refused: 4, silent: 0 }));
        assert_eq!(world.pass(1), [] as [u8; 0]);
    }

    #[test]
    fn services_without_rules_eject_nobody() {
        let mut world = World::new(2);
        assert!(!world.outliers.keep(|_| true));
        world.add(1, 9, 9, 0);
        assert_eq!(world.pass(1), [1]);
        assert!(world.outliers.keep(|_| false));
        assert_eq!(world.out(), [] as [u8; 0]);
    }

    proptest! {
        #[test]
        fn some_always_stay_and_everybody_comes_back(
            backends in 1u8..9, share in 1u8..=100,
            steps in proptest::collection::vec((1u8..9, 0u64..20, 0u64..20), 1..100)
        ) {
            let mut world = World::new(backends);
            world.rules.share = share;
            for (nth, opened, failed) in steps {
                world.add(1 + nth % backends, opened, failed.min(opened), 0);
                let out = world.pass(1).len();
                prop_assert!(out < usize::from(backends));
                prop_assert!(out * 100 <= usize::from(backends) * usize::from(share));
            }
            prop_assert!(world.pass(2).len() < usize::from(backends));
            world.tallies.values_mut().for_each(|tally| *tally = None);
            prop_assert!(world.pass(1).is_empty());
        }
    }
}
