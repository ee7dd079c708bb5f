//! Which segments begin and end a flow: pure.
//!
//! A balancer sees the segments of clients only, and of those this sees SYN, FIN and RST. Sent again, they are no further
//! beginnings and ends; for that the last flows are remembered, a bounded number.

use mesh_common::{
    abi::ServiceKey,
    flow::Signs,
    notes::FlowEvent,
    outcome::{Outcome, Verdict},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// Flows that are remembered; the oldest are forgotten first. Some 10 MB.
pub(super) const MOST: usize = 65_536;

/// A client that is not answered sends its SYN again for two minutes: 1 + 2 + … + 64 s with Linux' six retries
/// (tcp(7), `tcp_syn_retries`).
const OPENING_NS: u64 = 180_000_000_000;

/// What a segment means for its flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It begins.
    Start,
    /// It does not: its first segment was not sent to a backend.
    Refused(Outcome),
    /// It ends.
    End {
        /// The client sent RST and not FIN.
        is_reset: bool,
        /// Since it began, if that is known.
        lasted: Option<Duration>,
    },
}

/// The last flows.
#[derive(Debug, Default)]
pub struct Flows {
    known: HashMap<Key, Known>,
    /// Which of them came first.
    order: BTreeMap<u64, Key>,
    next: u64,
}

/// Client and destination.
type Key = ([u64; 2], u16, ServiceKey);

#[derive(Clone, Copy, Debug)]
struct Known {
    /// When it began, of one that goes on. Nanoseconds.
    started: Option<u64>,
    backend: u32,
    /// Its place in the order.
    place: u64,
}

impl Flows {
    /// What a segment means; nothing, if it was seen before.
    pub fn turn(&mut self, event: &FlowEvent) -> Option<Turn> {
        let key = (event.client, event.port, event.destination);
        let known = self.known.get(&key).copied();
        let flags = event.flags.to_le_bytes()[0];
        if Signs::tcp(flags).opens() {
            return self.open(event, key, known);
        }
        let lasted = match known {
            Some(Known { started: None, .. }) => return None,
            Some(Known { started: Some(started), .. }) => {
                Some(Duration::from_nanos(event.time.saturating_sub(started)))
            }
            None => None,
        };
        self.remember(key, None, event.backend);
        /// RST (RFC 9293 §3.1).
        const RST: u8 = 0x04;
        Some(Turn::End { is_reset: flags & RST != 0, lasted })
    }

    fn open(&mut self, event: &FlowEvent, key: Key, known: Option<Known>) -> Option<Turn> {
        let outcome = usize::try_from(event.outcome).ok().and_then(|index| Outcome::ALL.get(index)).copied();
        let outcome = outcome.unwrap_or(Outcome::Unhandled);
        if !matches!(outcome.verdict(), Verdict::Transmit | Verdict::Redirect) {
            return Some(Turn::Refused(outcome));
        }
        if let Some(Known { started: Some(started), backend, .. }) = known
            && backend == event.backend
            && event.time.saturating_sub(started) < OPENING_NS
        {
            return None;
        }
        self.remember(key, Some(event.time), event.backend);
        Some(Turn::Start)
    }

    fn remember(&mut self, key: Key, started: Option<u64>, backend: u32) {
        let place = self.next;
        self.next += 1;
        if let Some(before) = self.known.insert(key, Known { started, backend, place }) {
            self.order.remove(&before.place);
        }
        self.order.insert(place, key);
        if self.known.len() > MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u16 = 0x02;
    const FIN: u16 = 0x11;
    const RST: u16 = 0x04;
    const SECOND: u64 = 1_000_000_000;

    fn event(port: u16, flags: u16, seconds: u64) -> FlowEvent {
        let outcome = Outcome::Transmitted.index();
        FlowEvent { port, flags, time: seconds * SECOND, backend: 1, outcome, ..FlowEvent::default() }
    }

    const fn end(is_reset: bool, seconds: Option<u64>) -> Option<Turn> {
        let lasted = match seconds {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => None,
        };
        Some(Turn::End { is_reset, lasted })
    }

    fn turns(events: &[FlowEvent]) -> Vec<Option<Turn>> {
        let mut flows = Flows::default();
        events.iter().map(|event| flows.turn(event)).collect()
    }

    #[test]
    fn a_flow_begins_and_ends_once() {
        let events = [
            event(1, SYN, 1),
            event(1, SYN, 2),
            event(1, FIN, 5),
            event(1, FIN, 6),
            event(1, RST, 7),
            event(1, SYN, 8),
            event(1, RST, 9),
        ];
        let expected =
            [Some(Turn::Start), None, end(false, Some(4)), None, None, Some(Turn::Start), end(true, Some(1))];
        assert_eq!(turns(&events), expected);
    }

    #[test]
    fn flows_are_told_apart() {
        let other = FlowEvent { client: [0, 9], ..event(1, FIN, 3) };
        let events = [event(1, SYN, 1), event(2, SYN, 1), other, event(2, FIN, 4), event(1, FIN, 6)];
        let expected = [
            Some(Turn::Start),
            Some(Turn::Start),
            end(false, None),
            end(false, Some(3)),
            end(false, Some(5)),
        ];
        assert_eq!(turns(&events), expected);
    }

    #[test]
    fn a_flow_begins_again_at_another_backend_and_when_its_port_is_used_again() {
        let moved = FlowEvent { backend: 2, ..event(1, SYN, 2) };
        assert_eq!(turns(&[event(1, SYN, 1), moved]), [Some(Turn::Start), Some(Turn::Start)]);
        assert_eq!(turns(&[event(1, SYN, 1), event(1, SYN, 182)]), [Some(Turn::Start), Some(Turn::Start)]);
    }

    #[test]
    fn who_gets_no_backend_is_refused_each_time() {
        let refused = FlowEvent { backend: 0, outcome: Outcome::NoBackend.index(), ..event(1, SYN, 1) };
        let expected = Some(Turn::Refused(Outcome::NoBackend));
        assert_eq!(turns(&[refused, refused]), [expected.clone(), expected]);
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut flows = Flows::default();
        let numbered = |number: u64, flags| FlowEvent { client: [0, number], ..event(1, flags, 1) };
        let most = u64::try_from(MOST).unwrap();
        (0..=most).for_each(|number| assert_eq!(flows.turn(&numbered(number, SYN)), Some(Turn::Start)));
        assert_eq!((flows.known.len(), flows.order.len()), (MOST, MOST));
        assert_eq!(flows.turn(&numbered(1, FIN)), end(false, Some(0)));
        assert_eq!(flows.turn(&numbered(0, FIN)), end(false, None));
    }
}
