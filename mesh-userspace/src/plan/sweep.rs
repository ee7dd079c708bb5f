//! What a look through the flow table finds, and which records it throws away.

use crate::{
    config::Protocol,
    dataplane::{Flow, Load, lasting},
};
use mesh_common::{
    flow::{Ticks, UDP_IDLE, state},
    schedule,
    slot::{Phase, Slot},
};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// A closing flow's last segments come within this time.
const CLOSING_IDLE: Duration = Duration::from_secs(30);

/// An established flow that is silent for longer is taken for gone, unless the service says otherwise or its window is
/// longer still.
const ESTABLISHED_IDLE: Duration = Duration::from_secs(30 * 60);

/// A SYN whose client never went on: past the last retransmission that clients make.
const OPENING_IDLE: Duration = Duration::from_secs(130);

/// What the last look through the flow table left there.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// When it began; `None` before the first.
    pub started: Option<Instant>,
    /// How many records stayed.
    pub records: u64,
    /// Slots that have records.
    pub slots: HashSet<u32>,
    /// Backends that records name.
    pub backends: HashSet<u32>,
    /// Services that records name.
    pub services: HashSet<u32>,
    /// Flows that are not closing.
    pub loads: HashMap<Load, u64>,
}

impl Sweep {
    /// Notes a record that stays.
    pub fn keep(&mut self, slot: u32, flow: &Flow) {
        self.records += 1;
        self.slots.insert(slot);
        self.backends.insert(flow.record.backend);
        self.services.insert(flow.service);
        if schedule::counted(&flow.record) != 0 {
            for of in [Load::Backend(flow.record.backend), Load::Service(flow.service)] {
                *self.loads.entry(of).or_default() += 1;
            }
        }
    }

    pub(super) fn is_after(&self, moment: Instant) -> bool {
        self.started.is_some_and(|started| started > moment)
    }

    /// Whether the slot, in its phase since a moment, has no records any more.
    pub(super) fn cleared(&self, slot: u32, since: Instant) -> bool {
        self.is_after(since) && !self.slots.contains(&slot)
    }
}

/// For how long a service's flows may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// The service's protocol.
    pub protocol: Protocol,
    /// The service's window.
    pub window: Duration,
    /// What is configured.
    pub idle_timeout: Option<Duration>,
}

/// Whether a flow's record stays in the table, at a slot as it is now.
#[must_use]
pub fn keeps_record(flow: &Flow, slot: Slot, lifetime: Lifetime, now: Ticks) -> bool {
    let Lifetime { protocol, window, idle_timeout } = lifetime;
    let idle = lasting(flow.record.idle(now));
    let bound = match (protocol, flow.record.state) {
        (Protocol::Udp | Protocol::Quic | Protocol::Any, _) => idle_timeout.unwrap_or(lasting(UDP_IDLE)),
        (Protocol::Tcp, state::CLOSING) => CLOSING_IDLE,
        (Protocol::Tcp, state::OPENING) => OPENING_IDLE,
        (Protocol::Tcp, _) => idle_timeout.unwrap_or_else(|| window.max(ESTABLISHED_IDLE)),
    };
    let useful = match slot.phase() {
        Phase::Steady => false,
        // If not all are recorded, one that says what the slot says without it is not needed.
        Phase::Settling => slot.records() || flow.record.backend != slot.current(),
        Phase::Migrating => true,
    };
    useful && idle <= bound
}

/// How long a connection whose packets are translated may be silent: established ones as RFC 5382 (REQ-5) wants it for TCP,
/// UDP as RFC 4787 (REQ-5).
const TRANSLATED_TCP: Duration = Duration::from_secs(7440);
const TRANSLATED_UDP: Duration = Duration::from_secs(120);

/// One that nothing came back of, or went on.
const TRANSLATED_OPENING: Duration = Duration::from_secs(60);

/// After the last segment of a closed one its port is kept: the backend's socket may wait for so long (`TCP_TIMEWAIT_LEN`,
/// include/net/tcp.h).
const TRANSLATED_CLOSED: Duration = Duration::from_secs(60);

/// Whether a connection whose packets are translated is kept.
#[must_use]
pub fn keeps_connection(flow: &Flow, lifetime: Lifetime, now: Ticks) -> bool {
    let Lifetime { protocol, idle_timeout, window: _ } = lifetime;
    let bound = match (protocol, flow.record.state) {
        (Protocol::Tcp, state::CLOSING) => TRANSLATED_CLOSED,
        (_, state::OPENING) => TRANSLATED_OPENING,
        (Protocol::Tcp, _) => idle_timeout.unwrap_or(TRANSLATED_TCP),
        (Protocol::Udp | Protocol::Quic | Protocol::Any, _) => idle_timeout.unwrap_or(TRANSLATED_UDP),
    };
    lasting(flow.record.idle(now)) <= bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_common::flow::FlowRecord;

    #[test]
    fn connections_go_by_protocol_and_state_whatever_their_slot() {
        let keeps = |protocol, state, idle: Ticks| {
            let record = FlowRecord { backend: 1, seen: 100, state };
            let flow = Flow { client: ([192, 0, 2, 1], 1).into(), service: 1, hash: 0, record };
            keeps_connection(&flow, Lifetime { protocol, window: WINDOW, idle_timeout: None }, 100 + idle)
        };
        for (protocol, state, last) in [
            (Protocol::Tcp, state::OPENING, 55),
            (Protocol::Tcp, state::ESTABLISHED, 6929),
            (Protocol::Tcp, state::CLOSING, 55),
            (Protocol::Udp, state::OPENING, 55),
            (Protocol::Quic, state::ESTABLISHED, 111),
        ] {
            assert_eq!([last, last + 1].map(|idle| keeps(protocol, state, idle)), [true, false], "{state}");
        }
    }

    const WINDOW: Duration = Duration::from_secs(1);

    fn keeps(slot: Slot, state: u32, protocol: Protocol, idle: Ticks) -> bool {
        let record = FlowRecord { backend: 1, seen: 100, state };
        let flow = Flow { client: ([192, 0, 2, 1], 1).into(), service: 1, hash: 0, record };
        keeps_record(&flow, slot, Lifetime { protocol, window: WINDOW, idle_timeout: None }, 100 + idle)
    }

    #[test]
    fn a_steady_slot_has_no_records() {
        assert!(!keeps(Slot::steady(1), state::ESTABLISHED, Protocol::Tcp, 0));
    }

    #[test]
    fn a_settling_slot_keeps_only_what_differs() {
        assert!(!keeps(Slot::new(1, 1, true, false), state::ESTABLISHED, Protocol::Tcp, 0));
        assert!(keeps(Slot::new(2, 2, true, false), state::ESTABLISHED, Protocol::Tcp, 0));
    }

    #[test]
    fn idle_records_go_by_protocol_and_state() {
        let slot = Slot::new(2, 3, true, true);
        assert!(keeps(slot, state::ESTABLISHED, Protocol::Tcp, 1600));
        assert!(!keeps(slot, state::ESTABLISHED, Protocol::Tcp, 1700));
        assert!(!keeps(slot, state::CLOSING, Protocol::Tcp, 30));
        assert!(!keeps(slot, state::OPENING, Protocol::Tcp, 130));
        assert!(keeps(slot, state::ESTABLISHED, Protocol::Udp, 55));
        assert!(!keeps(slot, state::ESTABLISHED, Protocol::Udp, 56));
    }

    #[test]
    fn a_configured_timeout_stands_for_the_defaults() {
        let keeps = |protocol, state, idle: Ticks| {
            let record = FlowRecord { backend: 1, seen: 100, state };
            let flow = Flow { client: ([192, 0, 2, 1], 1).into(), service: 1, hash: 0, record };
            let lifetime = Lifetime { protocol, window: WINDOW, idle_timeout: Some(Duration::from_secs(20)) };
            keeps_record(&flow, Slot::new(1, 1, true, true), lifetime, 100 + idle)
        };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert!(keeps(protocol, state::ESTABLISHED, 18) && !keeps(protocol, state::ESTABLISHED, 19));
        }
        assert!(keeps(Protocol::Tcp, state::OPENING, 100));
    }
}
