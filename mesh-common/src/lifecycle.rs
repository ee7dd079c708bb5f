//! A slot's life: how userspace changes it so that no live flow changes its backend.
//!
//! ```text
//!          change                    settle                      calm
//! steady ─────────► migrating ───────────────► settling ───────────────────► steady
//!                   every live flow sends      no flow record of the slot
//!                   a packet meanwhile         names another backend
//! ```
//! [`change`] may come at any time. A steady slot has no flow records at all, so that none can be found stale later:
//! who calls [`calm`] has deleted those that name `current`, which changes nothing for their flows.

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

/// The slot after the table gave it to `current`, or a backend came or went.
///
/// `alive` tells whether flows may stay on a backend; a draining one is alive, backend 0 is not.
#[must_use]
pub fn change(slot: Slot, current: u32, tracking: Tracking, alive: impl Fn(u32) -> bool) -> Slot {
    if tracking == Tracking::Never {
        return Slot::steady(current);
    }
    let untracked = if alive(slot.untracked()) { slot.untracked() } else { current };
    let always = tracking == Tracking::Always;
    let migrating = untracked != current;
    Slot::new(current, untracked, slot.consults() || migrating || always, migrating || always)
}

/// The slot once every live flow has sent a packet since it began to migrate: who is not recorded is new.
#[must_use]
pub fn settle(slot: Slot, tracking: Tracking) -> Slot {
    match slot.phase() {
        Phase::Migrating => Slot::new(slot.current(), slot.current(), true, tracking == Tracking::Always),
        Phase::Steady | Phase::Settling => slot,
    }
}

/// The slot once no flow record belongs to it.
#[must_use]
pub fn calm(slot: Slot, tracking: Tracking) -> Slot {
    match (slot.phase(), tracking) {
        (Phase::Settling, Tracking::Adaptive | Tracking::Never) => Slot::steady(slot.current()),
        (Phase::Settling, Tracking::Always) | (Phase::Steady | Phase::Migrating, _) => slot,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::flow::{FlowRecord, Segment, Ticks, decide, state};
    use proptest::prelude::*;
    use std::{collections::BTreeMap, vec::Vec};

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
        tracking: Tracking,
        udp: bool,
        slot: Slot,
        alive: BTreeMap<u32, bool>,
        records: BTreeMap<u8, FlowRecord>,
        live: BTreeMap<u8, Live>,
        now: Ticks,
    }

    impl World {
        fn new(tracking: Tracking, udp: bool) -> Self {
            let slot = change(Slot::default(), 1, tracking, |_| false);
            let alive = (1..=BACKENDS).map(|id| (id, true)).collect();
            Self { tracking, udp, slot, alive, records: BTreeMap::new(), live: BTreeMap::new(), now: 1000 }
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
            let segment = if self.udp { Segment::Datagram } else { Segment::Opening };
            let backend = self.send(flow, segment);
            if self.alive.get(&backend) == Some(&true) {
                self.live.insert(flow, Live { backend, seen: true, last: self.now });
            }
        }

        fn give(&mut self, to: u32) {
            let slot = change(self.slot, to, self.tracking, |id| self.alive.get(&id) == Some(&true));
            if slot.phase() == Phase::Migrating && self.slot.phase() != Phase::Migrating {
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
            if self.slot.phase() != Phase::Settling || self.tracking == Tracking::Always {
                return;
            }
            let current = self.slot.current();
            let live = &self.live;
            self.records.retain(|flow, record| record.backend != current && live.contains_key(flow));
            if self.records.is_empty() {
                self.slot = calm(self.slot, self.tracking);
            }
        }

        fn step(&mut self, event: Event) -> Result<(), TestCaseError> {
            let segment = if self.udp { Segment::Datagram } else { Segment::Established };
            match event {
                Event::Open(flow) if !self.live.contains_key(&flow) => self.begin(flow),
                // A retransmitted or forged SYN.
                Event::Open(flow)
                    if !self.udp && self.records.get(&flow).is_some_and(|r| r.state != state::CLOSING) =>
                {
                    self.packet(flow, Segment::Opening)?;
                }
                Event::Packet(flow) if self.live.contains_key(&flow) => self.packet(flow, segment)?,
                Event::Close(flow) if self.live.contains_key(&flow) => {
                    self.packet(flow, if self.udp { segment } else { Segment::Closing })?;
                    self.packet(flow, segment)?;
                    self.live.remove(&flow);
                }
                Event::Vanish(flow) => drop(self.live.remove(&flow)),
                Event::Give(to) if self.alive[&to] => self.give(to),
                Event::Die(backend) if self.alive[&backend] => self.die(backend),
                Event::Revive(backend) => drop(self.alive.insert(backend, true)),
                Event::Settle if self.live.values().all(|live| live.seen) => {
                    self.slot = settle(self.slot, self.tracking)
                }
                Event::Calm => self.calm(),
                Event::Wait(ticks) => {
                    self.now += ticks;
                    // A UDP flow that is silent for so long is no flow any more.
                    let (udp, now) = (self.udp, self.now);
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
            let mut world = World::new(tracking, udp);
            for event in events {
                world.step(event)?;
            }
        }

        #[test]
        fn a_slot_returns_to_steady(gives in prop::collection::vec(1u32..=4, 1..6)) {
            let mut slot = Slot::steady(1);
            for to in &gives {
                slot = change(slot, *to, Tracking::Adaptive, |_| true);
            }
            let slot = calm(settle(slot, Tracking::Adaptive), Tracking::Adaptive);
            prop_assert_eq!(slot, Slot::steady(*gives.last().unwrap()));
        }
    }

    #[test]
    fn a_steady_slot_of_a_dead_backend_moves_without_state() {
        assert_eq!(change(Slot::steady(1), 2, Tracking::Adaptive, |_| false), Slot::steady(2));
    }

    #[test]
    fn a_further_change_replaces_current_only() {
        let slot = change(Slot::steady(1), 2, Tracking::Adaptive, |_| true);
        assert_eq!(change(slot, 3, Tracking::Adaptive, |_| true), Slot::new(3, 1, true, true));
    }

    #[test]
    fn without_tracking_a_slot_moves_at_once() {
        assert_eq!(change(Slot::new(1, 4, true, true), 2, Tracking::Never, |_| true), Slot::steady(2));
    }
}
