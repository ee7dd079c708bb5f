//! A slot's life: how userspace changes it so that no live flow changes its backend.
//!
//! ```text
//!        change                 pin                  settle                   calm
//! steady ──────► migrating ────────────► migrating, ────────────► settling ──────────────► steady
//!                (new flows are          recording   every live    (records are  no record of
//!                recorded, old ones      (old ones   flow has      honoured)     the slot is
//!                end by themselves)      too)        sent a packet               left
//! ```
//! [`change`] may come at any time. Old flows are recorded late, so that the flow table holds those only that are
//! still there. Without connections a new flow cannot be told from an old one: then recording begins at once.
//! A steady slot has no flow records at all, so that none can be found stale later: who calls [`calm`] has deleted
//! those that name `current`, which changes nothing for their flows.

use crate::slot::{Phase, Slot};

/// When flows are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Only at slots whose owner is changing.
    Adaptive,
    /// Always.
    Always,
    /// Never: a flow moves with its slot.
    Never,
}

/// What a service wants of its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// When flows are recorded.
    pub tracking: Tracking,
    /// Whether flows have a beginning that can be seen, as TCP's have.
    pub connections: bool,
}

impl Rules {
    const fn always(self) -> bool {
        matches!(self.tracking, Tracking::Always)
    }
}

/// The slot after the table gave it to `current`, or a backend came or went.
///
/// `alive` tells whether flows may stay on a backend; a draining one is alive, backend 0 is not.
#[must_use]
pub fn change(slot: Slot, current: u32, rules: Rules, alive: impl Fn(u32) -> bool) -> Slot {
    if rules.tracking == Tracking::Never {
        return Slot::steady(current);
    }
    let untracked = if alive(slot.untracked()) { slot.untracked() } else { current };
    let migrating = untracked != current;
    let pinned = slot.phase() == Phase::Migrating && slot.records();
    let record = rules.always() || (migrating && (pinned || !rules.connections));
    Slot::new(current, untracked, slot.consults() || migrating || rules.always(), record)
}

/// The slot once most of its old flows have ended: those that are left are recorded from now on.
#[must_use]
pub fn pin(slot: Slot) -> Slot {
    match slot.phase() {
        Phase::Migrating => Slot::new(slot.current(), slot.untracked(), true, true),
        Phase::Steady | Phase::Settling => slot,
    }
}

/// The slot once every live flow has sent a packet since it was pinned: who is not recorded is new.
#[must_use]
pub fn settle(slot: Slot, rules: Rules) -> Slot {
    match (slot.phase(), slot.records()) {
        (Phase::Migrating, true) => Slot::new(slot.current(), slot.current(), true, rules.always()),
        (Phase::Migrating, false) | (Phase::Steady | Phase::Settling, _) => slot,
    }
}

/// The slot once no flow record belongs to it.
#[must_use]
pub fn calm(slot: Slot, rules: Rules) -> Slot {
    match slot.phase() {
        Phase::Settling if !rules.always() => Slot::steady(slot.current()),
        Phase::Settling | Phase::Steady | Phase::Migrating => slot,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::flow::{FlowRecord, Segment, Ticks, decide, state};
    use proptest::prelude::*;
    use std::{collections::BTreeMap, vec, vec::Vec};

    const TCP: Rules = Rules { tracking: Tracking::Adaptive, connections: true };
    const BACKENDS: u32 = 4;
    const FLOWS: u8 = 6;

    #[derive(Clone, Debug)]
    enum Event {
        Open(u8),
        Packet(u8),
        Close(u8),
        /// The client vanishes without a word.
        Vanish(u8),
        Give(u32),
        Die(u32),
        Revive(u32),
        Pin,
        Settle,
        Calm,
        Wait(Ticks),
    }

    fn event() -> impl Strategy<Value = Event> {
        let flow = 0..FLOWS;
        let backend = 1..=BACKENDS;
        prop_oneof![
            3 => flow.clone().prop_map(Event::Open),
            6 => flow.clone().prop_map(Event::Packet),
            1 => flow.clone().prop_map(Event::Close),
            1 => flow.prop_map(Event::Vanish),
            3 => backend.clone().prop_map(Event::Give),
            1 => backend.clone().prop_map(Event::Die),
            1 => backend.prop_map(Event::Revive),
            2 => Just(Event::Pin),
            2 => Just(Event::Settle),
            2 => Just(Event::Calm),
            1 => (0u32..40).prop_map(Event::Wait),
        ]
    }

    struct Live {
        backend: u32,
        seen: bool,
        last: Ticks,
    }

    /// One slot, its flows, the flow table, and the clients' own memory of who answered them.
    struct World {
        rules: Rules,
        slot: Slot,
        alive: BTreeMap<u32, bool>,
        records: BTreeMap<u8, FlowRecord>,
        live: BTreeMap<u8, Live>,
        now: Ticks,
    }

    impl World {
        fn new(rules: Rules) -> Self {
            let slot = change(Slot::default(), 1, rules, |_| false);
            let alive = (1..=BACKENDS).map(|id| (id, true)).collect();
            Self { rules, slot, alive, records: BTreeMap::new(), live: BTreeMap::new(), now: 1000 }
        }

        fn send(&mut self, flow: u8, segment: Segment) -> u32 {
            if !self.slot.consults() {
                return self.slot.current();
            }
            let found = self.records.get(&flow).map(|record| (*record, self.alive[&record.backend]));
            let decision = decide(self.slot, segment, found, self.now);
            if let Some(record) = decision.record {
                self.records.insert(flow, record);
            }
            decision.backend
        }

        fn packet(&mut self, flow: u8, segment: Segment) -> Result<(), TestCaseError> {
            let got = self.send(flow, segment);
            let now = self.now;
            if let Some(live) = self.live.get_mut(&flow) {
                prop_assert_eq!(got, live.backend, "flow {} moved at {:?}", flow, self.slot);
                live.seen = true;
                live.last = now;
            }
            Ok(())
        }

        fn begin(&mut self, flow: u8) {
            let segment = if !self.rules.connections { Segment::Datagram } else { Segment::Opening };
            let backend = self.send(flow, segment);
            if self.alive.get(&backend) == Some(&true) {
                self.live.insert(flow, Live { backend, seen: true, last: self.now });
            }
        }

        fn give(&mut self, to: u32) {
            let slot = change(self.slot, to, self.rules, |id| self.alive.get(&id) == Some(&true));
            self.turn_into(slot);
        }

        /// A slot that begins to record has seen no flow yet.
        fn turn_into(&mut self, slot: Slot) {
            let records = |slot: Slot| slot.phase() == Phase::Migrating && slot.records();
            if records(slot) && !records(self.slot) {
                self.live.values_mut().for_each(|live| live.seen = false);
            }
            self.slot = slot;
        }

        fn die(&mut self, backend: u32) {
            let others = (1..=BACKENDS).filter(|id| *id != backend && self.alive[id]);
            let Some(heir) = others.min() else { return };
            self.alive.insert(backend, false);
            self.live.retain(|_, live| live.backend != backend);
            let current = if self.slot.current() == backend { heir } else { self.slot.current() };
            self.give(current);
        }

        fn calm(&mut self) {
            if self.slot.phase() != Phase::Settling || self.rules.always() {
                return;
            }
            let current = self.slot.current();
            let live = &self.live;
            self.records.retain(|flow, record| record.backend != current && live.contains_key(flow));
            if self.records.is_empty() {
                self.slot = calm(self.slot, self.rules);
            }
        }

        fn step(&mut self, event: Event) -> Result<(), TestCaseError> {
            let segment = if !self.rules.connections { Segment::Datagram } else { Segment::Established };
            match event {
                Event::Open(flow) if !self.live.contains_key(&flow) => self.begin(flow),
                // A retransmitted or forged SYN.
                Event::Open(flow)
                    if self.rules.connections
                        && self.records.get(&flow).is_some_and(|r| r.state != state::CLOSING) =>
                {
                    self.packet(flow, Segment::Opening)?;
                }
                Event::Packet(flow) if self.live.contains_key(&flow) => self.packet(flow, segment)?,
                Event::Close(flow) if self.live.contains_key(&flow) => {
                    self.packet(flow, if !self.rules.connections { segment } else { Segment::Closing })?;
                    self.packet(flow, segment)?;
                    self.live.remove(&flow);
                }
                Event::Vanish(flow) => drop(self.live.remove(&flow)),
                Event::Give(to) if self.alive[&to] => self.give(to),
                Event::Die(backend) if self.alive[&backend] => self.die(backend),
                Event::Revive(backend) => drop(self.alive.insert(backend, true)),
                Event::Pin => self.turn_into(pin(self.slot)),
                Event::Settle if self.live.values().all(|live| live.seen) => {
                    self.slot = settle(self.slot, self.rules)
                }
                Event::Calm => self.calm(),
                Event::Wait(ticks) => {
                    self.now += ticks;
                    // A UDP flow that is silent for so long is no flow any more.
                    let (udp, now) = (!self.rules.connections, self.now);
                    self.live.retain(|_, live| !udp || now - live.last <= crate::flow::UDP_IDLE);
                    // TCP clients answer keep-alives, so that none is silent beyond the guard time.
                    if !udp {
                        let open: Vec<u8> = self.live.keys().copied().collect();
                        open.into_iter().try_for_each(|flow| self.packet(flow, Segment::Established))?;
                    }
                }
                Event::Open(_)
                | Event::Packet(_)
                | Event::Close(_)
                | Event::Give(_)
                | Event::Die(_)
                | Event::Settle => {}
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn no_live_flow_changes_its_backend(
            always: bool, udp: bool, events in prop::collection::vec(event(), 1..120),
        ) {
            let tracking = if always { Tracking::Always } else { Tracking::Adaptive };
            let mut world = World::new(Rules { tracking, connections: !udp });
            for event in events {
                world.step(event)?;
            }
        }

        #[test]
        fn a_slot_returns_to_steady(gives in prop::collection::vec(1u32..=4, 1..6)) {
            let mut slot = Slot::steady(1);
            for to in &gives {
                slot = change(slot, *to, TCP, |_| true);
            }
            let slot = calm(settle(pin(slot), TCP), TCP);
            prop_assert_eq!(slot, Slot::steady(*gives.last().unwrap()));
        }
    }

    #[test]
    fn a_steady_slot_of_a_dead_backend_moves_without_state() {
        assert_eq!(change(Slot::steady(1), 2, TCP, |_| false), Slot::steady(2));
    }

    #[test]
    fn a_further_change_replaces_current_only() {
        let slot = change(Slot::steady(1), 2, TCP, |_| true);
        assert_eq!(change(slot, 3, TCP, |_| true), Slot::new(3, 1, true, false));
    }

    #[test]
    fn without_connections_recording_begins_at_once() {
        let rules = Rules { connections: false, ..TCP };
        assert_eq!(change(Slot::steady(1), 2, rules, |_| true), Slot::new(2, 1, true, true));
    }

    #[test]
    fn a_slot_does_not_settle_before_it_is_pinned() {
        let slot = change(Slot::steady(1), 2, TCP, |_| true);
        assert_eq!(settle(slot, TCP), slot);
        assert_eq!(settle(pin(slot), TCP), Slot::new(2, 2, true, false));
    }

    #[test]
    fn without_tracking_a_slot_moves_at_once() {
        assert_eq!(
            change(
                Slot::new(1, 4, true, true),
                2,
                Rules { tracking: Tracking::Never, connections: true },
                |_| true
            ),
            Slot::steady(2)
        );
    }
}
