//! What the balancer did with the packets of its services: pure.

use std::collections::BTreeMap;
use std::fmt;

use mesh_common::outcome::{Outcome, Verdict};

/// Counted packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packets {
    forwarded: u64,
    /// By the outcome's name; only outcomes that occurred.
    dropped: BTreeMap<&'static str, u64>,
}

impl Packets {
    /// From the counters by the names of outcomes, as `meshlb status` shows them.
    pub(crate) fn of(outcomes: &BTreeMap<String, u64>) -> Self {
        let mut packets = Self::default();
        for outcome in Outcome::ALL {
            let count = outcomes.get(outcome.label()).copied().unwrap_or(0);
            match outcome.verdict() {
                Verdict::Transmit | Verdict::Redirect => packets.forwarded += count,
                Verdict::Drop if count > 0 => drop(packets.dropped.insert(outcome.label(), count)),
                Verdict::Drop | Verdict::Pass => {}
            }
        }
        packets
    }

    pub(crate) fn none_dropped(&self) -> bool {
        self.dropped.is_empty()
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets sent on to backends in tunnels, ", self.forwarded)?;
        if self.none_dropped() {
            return write!(f, "none dropped");
        }
        let dropped = self.dropped.iter().map(|(outcome, count)| format!("{count} {outcome}"));
        write!(f, "wrong: some dropped: {}", dropped.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets<const N: usize>(outcomes: [(&str, u64); N]) -> Packets {
        Packets::of(&outcomes.into_iter().map(|(name, count)| (name.to_owned(), count)).collect())
    }

    #[test]
    fn packets_of_others_are_not_counted() {
        let packets = packets([("transmitted", 5), ("redirected", 2), ("not_ip", 9), ("no_backend", 0)]);
        assert_eq!(packets.to_string(), "7 packets sent on to backends in tunnels, none dropped");
        assert!(packets.none_dropped());
    }

    #[test]
    fn what_was_dropped_is_wrong_and_named() {
        let packets = packets([("transmitted", 5), ("no_backend", 3), ("too_big", 1)]);
        assert!(packets.to_string().ends_with("wrong: some dropped: 3 no_backend, 1 too_big"), "{packets}");
        assert!(!packets.none_dropped());
    }
}
