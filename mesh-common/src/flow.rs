//! Which backend a flow belongs to, at a slot that consults the flow table.
//!
//! [`decide`] is the whole of connection tracking: the kernel calls it with what it found, forwards to the backend it
//! names and writes the record it returns. A steady slot needs none of this.

use crate::slot::Slot;

/// Coarse time: units of 2^30 nanoseconds (1.07 s), so that no division is needed.
pub type Ticks = u32;

/// The tick of a moment in jiffies, as `bpf_jiffies64` counts them, each of so many nanoseconds: 10^9 / `CONFIG_HZ`.
#[inline(always)]
#[must_use]
pub const fn ticks(jiffies: u64, jiffy: u64) -> Ticks {
    #[expect(clippy::cast_possible_truncation, reason = "wraps after 146 years; differences are wrapping")]
    let ticks = (jiffies.wrapping_mul(jiffy) >> 30) as Ticks;
    ticks
}

/// A UDP flow idle for longer than this is new again: 59 s, less than the shortest sensible window of a service.
pub const UDP_IDLE: Ticks = 55;

/// A SYN for a flow that was active within this time is a retransmission or a forgery, and moves nothing: 59 s.
pub const SYN_GUARD: Ticks = 55;

/// How far a record's time may be after `now`: another CPU has read the clock later and written earlier. Far more than
/// a packet takes, and than a sweep.
pub const AHEAD: Ticks = 8;

/// What a packet does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A TCP SYN without ACK: the flow begins.
    Opening,
    /// A TCP FIN or RST: the flow is about to end.
    Closing,
    /// Any other TCP segment.
    Established,
    /// A UDP datagram: it says nothing of beginning or end.
    Datagram,
    /// An ICMP error about the flow: it goes where the flow is, and changes nothing.
    Related,
}

/// What a packet shows of its flow, as one word: the flags of TCP, or that it has none. A steady slot wants to know no
/// more than whether a flow begins; [`Self::segment`] says the rest.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs(u16);

impl Signs {
    /// Of a UDP datagram.
    pub const DATAGRAM: Self = Self(0x100);
    /// Of an ICMP error.
    pub const RELATED: Self = Self(0x200);

    const FIN: u16 = 0x01;
    const SYN: u16 = 0x02;
    const RST: u16 = 0x04;
    const ACK: u16 = 0x10;

    /// Of a TCP segment with these flags (RFC 9293 §3.1; the byte that holds FIN, SYN, RST, PSH, ACK).
    #[inline(always)]
    #[must_use]
    pub const fn tcp(flags: u8) -> Self {
        Self(flags as u16)
    }

    /// The flags of a TCP segment; 0 of anything else.
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "the rest says what is no segment")]
        let flags = self.0 as u8;
        flags
    }

    /// Whether it is a [`Segment::Opening`].
    #[inline(always)]
    #[must_use]
    pub const fn opens(self) -> bool {
        const ALL: u16 = Signs::FIN | Signs::SYN | Signs::RST | Signs::ACK;
        self.0 & (ALL | Self::DATAGRAM.0 | Self::RELATED.0) == Self::SYN
    }

    /// Whether it is a TCP segment with FIN.
    #[inline(always)]
    #[must_use]
    pub const fn is_fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Whether it is a TCP segment with RST.
    #[inline(always)]
    #[must_use]
    pub const fn is_rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether it is a TCP segment with ACK.
    #[inline(always)]
    #[must_use]
    pub const fn is_ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// Whether it is a segment that opens or closes a flow.
    #[inline(always)]
    #[must_use]
    pub const fn turns(self) -> bool {
        self.opens() || self.0 & (Self::FIN | Self::RST) != 0
    }

    /// What the packet does to its flow.
    #[inline(always)]
    #[must_use]
    pub const fn segment(self) -> Segment {
        if self.0 == Self::DATAGRAM.0 {
            Segment::Datagram
        } else if self.0 == Self::RELATED.0 {
            Segment::Related
        } else if self.0 & (Self::FIN | Self::RST) != 0 {
            Segment::Closing
        } else if self.opens() {
            Segment::Opening
        } else {
            Segment::Established
        }
    }
}

/// How far a recorded flow has come.
pub mod state {
    /// Only a SYN was seen.
    pub const OPENING: u32 = 1;
    /// Packets flow.
    pub const ESTABLISHED: u32 = 2;
    /// A FIN or RST was seen.
    pub const CLOSING: u32 = 3;
}

/// An element of the flow table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRecord {
    /// The backend's id.
    pub backend: u32,
    /// When the last packet came.
    pub seen: Ticks,
    /// One of [`state`].
    pub state: u32,
}

const _: () = assert!(size_of::<FlowRecord>() == 12);

impl FlowRecord {
    /// For how long nothing came.
    #[inline(always)]
    #[must_use]
    pub const fn idle(&self, now: Ticks) -> Ticks {
        self.until_ahead(now).saturating_sub(AHEAD)
    }

    /// verifier: compared with a limit that is [`AHEAD`] higher, this needs no branch for a time after `now`.
    #[inline(always)]
    const fn until_ahead(&self, now: Ticks) -> Ticks {
        now.wrapping_add(AHEAD).wrapping_sub(self.seen)
    }

    /// The record after one more packet.
    #[inline(always)]
    const fn after(self, segment: Segment, now: Ticks) -> Self {
        let state = match segment {
            Segment::Closing => state::CLOSING,
            Segment::Opening | Segment::Related => self.state,
            Segment::Established if self.state == state::CLOSING => state::CLOSING,
            Segment::Established | Segment::Datagram => state::ESTABLISHED,
        };
        Self { seen: now, state, ..self }
    }

    #[inline(always)]
    const fn first(backend: u32, segment: Segment, now: Ticks) -> Self {
        let state = if matches!(segment, Segment::Opening) { state::OPENING } else { state::ESTABLISHED };
        Self { backend, seen: now, state }
    }

    /// Whether the flow that this record was made for may still live, as far as `segment` tells.
    #[inline(always)]
    const fn speaks_for(&self, segment: Segment, now: Ticks) -> bool {
        match segment {
            Segment::Opening => self.state != state::CLOSING && self.until_ahead(now) <= SYN_GUARD + AHEAD,
            Segment::Datagram => self.until_ahead(now) <= UDP_IDLE + AHEAD,
            Segment::Closing | Segment::Established | Segment::Related => true,
        }
    }
}

/// What [`decide`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Who gets the packet; 0 when nobody can.
    pub backend: u32,
    /// The record to write, if it differs from what is there.
    pub record: Option<FlowRecord>,
}

/// Decides for a packet at a slot that consults the flow table.
///
/// `found` is the flow's record, and whether the backend that it names is alive.
#[inline(always)]
#[must_use]
pub fn decide(slot: Slot, segment: Segment, found: Option<(FlowRecord, bool)>, now: Ticks) -> Decision {
    match found {
        _ if segment == Segment::Related => Decision { backend: whereabouts(slot, found), record: None },
        Some((record, true)) if record.speaks_for(segment, now) => {
            let after = record.after(segment, now);
            Decision { backend: record.backend, record: (after != record).then_some(after) }
        }
        // The recorded flow is over or lost its backend: whatever comes now belongs to who takes new flows.
        Some(_) => give(slot.current(), segment, true, now),
        None if segment == Segment::Opening => {
            give(slot.current(), segment, slot.records() || slot.current() != slot.untracked(), now)
        }
        None => give(slot.untracked(), segment, slot.records() && segment != Segment::Closing, now),
    }
}

/// Who gets a packet if its flow is not recorded, where nothing is recorded of it either: then whether there is a record
/// is all that need be known, and there is a filter for that. `None` where the record, or its place, is looked for anyway.
#[inline(always)]
#[must_use]
pub const fn unrecorded(slot: Slot, opens: bool) -> Option<u32> {
    if slot.records() || opens && slot.current() != slot.untracked() {
        return None;
    }
    Some(slot.untracked())
}

/// Who gets a packet of a flow that is not recorded, if none is to be recorded that need not be, because too many begin: a
/// new one goes to whom it belongs without a record, even while another takes new flows. `None`: the record is needed.
#[inline(always)]
#[must_use]
pub fn stateless(slot: Slot, segment: Segment) -> Option<u32> {
    let owner = slot.untracked();
    (segment == Segment::Opening || slot.current() == owner).then_some(owner)
}

/// Whether [`decide`] gives the packet to whom new flows belong, as far as can be told: its flow is not recorded and the
/// packet may be its first, or what is recorded is over or lost its backend.
#[inline(always)]
#[must_use]
pub fn begins(segment: Segment, found: Option<(FlowRecord, bool)>, now: Ticks) -> bool {
    match found {
        _ if segment == Segment::Related => false,
        Some((record, alive)) => !(alive && record.speaks_for(segment, now)),
        None => matches!(segment, Segment::Opening | Segment::Datagram),
    }
}

/// Where a flow is, as far as one can tell without one of its own packets.
#[inline(always)]
const fn whereabouts(slot: Slot, found: Option<(FlowRecord, bool)>) -> u32 {
    match found {
        Some((record, true)) => record.backend,
        Some((_, false)) => slot.current(),
        None => slot.untracked(),
    }
}

#[inline(always)]
fn give(backend: u32, segment: Segment, record: bool, now: Ticks) -> Decision {
    Decision { backend, record: record.then(|| FlowRecord::first(backend, segment, now)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: FlowRecord = FlowRecord { backend: 3, seen: 100, state: state::ESTABLISHED };
    const MIGRATING: Slot = Slot::new(2, 1, true, true);
    const SETTLING: Slot = Slot::new(2, 2, true, false);

    #[test]
    fn a_new_flow_goes_to_current_and_is_recorded_while_migrating() {
        let decision = decide(MIGRATING, Segment::Opening, None, 100);
        let record = FlowRecord { backend: 2, seen: 100, state: state::OPENING };
        assert_eq!(decision, Decision { backend: 2, record: Some(record) });
    }

    #[test]
    fn an_unknown_flow_belongs_to_untracked_and_is_recorded_while_migrating() {
        for segment in [Segment::Established, Segment::Datagram] {
            let record = FlowRecord { backend: 1, seen: 100, state: state::ESTABLISHED };
            assert_eq!(decide(MIGRATING, segment, None, 100), Decision { backend: 1, record: Some(record) });
        }
    }

    #[test]
    fn a_settling_slot_makes_no_records() {
        for segment in [Segment::Opening, Segment::Established, Segment::Datagram, Segment::Closing] {
            assert_eq!(decide(SETTLING, segment, None, 100), Decision { backend: 2, record: None });
        }
    }

    #[test]
    fn a_record_is_followed_and_written_only_when_it_changes() {
        let same = decide(SETTLING, Segment::Established, Some((RECORD, true)), 100);
        assert_eq!(same, Decision { backend: 3, record: None });
        let later = decide(SETTLING, Segment::Established, Some((RECORD, true)), 101);
        assert_eq!(later.record, Some(FlowRecord { seen: 101, ..RECORD }));
    }

    #[test]
    fn in_a_flood_only_flows_that_would_lose_their_backend_are_recorded() {
        let pinned = Slot::new(2, 2, true, true);
        for segment in [Segment::Opening, Segment::Established, Segment::Datagram] {
            assert_eq!(stateless(pinned, segment), Some(2));
        }
        assert_eq!(stateless(MIGRATING, Segment::Opening), Some(1));
        assert_eq!([Segment::Established, Segment::Datagram].map(|it| stateless(MIGRATING, it)), [None; 2]);
    }

    #[test]
    fn a_dead_backend_never_keeps_a_flow() {
        let decision = decide(SETTLING, Segment::Established, Some((RECORD, false)), 100);
        assert_eq!(decision.backend, 2);
        assert_eq!(decision.record.map(|record| record.backend), Some(2));
    }

    #[test]
    fn a_syn_does_not_steal_an_active_flow_but_reuses_a_closed_or_silent_one() {
        let syn =
            |record: FlowRecord, now| decide(MIGRATING, Segment::Opening, Some((record, true)), now).backend;
        assert_eq!(syn(RECORD, 100 + SYN_GUARD), 3);
        assert_eq!(syn(RECORD, 101 + SYN_GUARD), 2);
        assert_eq!(syn(FlowRecord { state: state::CLOSING, ..RECORD }, 100), 2);
    }

    #[test]
    fn a_udp_flow_idle_too_long_is_new_again() {
        let datagram = |now| decide(MIGRATING, Segment::Datagram, Some((RECORD, true)), now).backend;
        assert_eq!(datagram(100 + UDP_IDLE), 3);
        assert_eq!(datagram(101 + UDP_IDLE), 2);
    }

    #[test]
    fn an_error_about_a_flow_goes_where_the_flow_is_and_changes_nothing() {
        let error = |found| decide(MIGRATING, Segment::Related, found, 500);
        assert_eq!(error(None), Decision { backend: 1, record: None });
        assert_eq!(error(Some((RECORD, true))), Decision { backend: 3, record: None });
        assert_eq!(error(Some((RECORD, false))), Decision { backend: 2, record: None });
    }

    #[test]
    fn a_flow_begins_where_no_record_speaks_for_it() {
        let begins = |segment, found| begins(segment, found, 100);
        assert!(begins(Segment::Opening, None) && begins(Segment::Datagram, None));
        for segment in [Segment::Established, Segment::Closing, Segment::Related] {
            assert!(!begins(segment, None) && !begins(segment, Some((RECORD, true))), "{segment:?}");
        }
        let closing = FlowRecord { state: state::CLOSING, ..RECORD };
        assert!(begins(Segment::Opening, Some((closing, true))));
        assert!(!begins(Segment::Opening, Some((RECORD, true))));
        assert!(begins(Segment::Established, Some((RECORD, false))));
        assert!(!begins(Segment::Related, Some((RECORD, false))));
    }

    #[test]
    fn a_flow_that_leaves_no_record_gets_without_one_what_it_gets_unrecorded() {
        let tcp = [0x02, 0x12, 0x11, 0x04, 0x18].map(Signs::tcp);
        let slots = [(2, 1), (2, 2)].into_iter().flat_map(|(current, untracked)| {
            [false, true].map(|record| Slot::new(current, untracked, true, record))
        });
        for slot in slots {
            for signs in tcp.into_iter().chain([Signs::DATAGRAM, Signs::RELATED]) {
                let decision = decide(slot, signs.segment(), None, 100);
                let settled = (!slot.records() && decision.record.is_none()).then_some(decision.backend);
                assert_eq!(unrecorded(slot, signs.opens()), settled, "{slot:?} {signs:?}");
            }
        }
    }

    #[test]
    fn segments_are_told_by_their_flags() {
        let tcp = |flags| Signs::tcp(flags).segment();
        assert_eq!(tcp(0x02), Segment::Opening);
        assert_eq!(tcp(0x12), Segment::Established);
        assert_eq!(tcp(0x11), Segment::Closing);
        assert_eq!(tcp(0x04), Segment::Closing);
        assert_eq!(tcp(0x18), Segment::Established);
        // SYN and FIN together open nothing.
        assert_eq!(tcp(0x03), Segment::Closing);
        assert_eq!(Signs::DATAGRAM.segment(), Segment::Datagram);
        assert_eq!(Signs::RELATED.segment(), Segment::Related);
    }

    #[test]
    fn only_openings_open() {
        let all = (0..=u8::MAX).map(Signs::tcp).chain([Signs::DATAGRAM, Signs::RELATED]);
        for signs in all {
            assert_eq!(signs.opens(), signs.segment() == Segment::Opening, "{signs:?}");
        }
    }

    #[test]
    fn a_record_written_after_now_was_read_speaks_for_its_flow() {
        let record = FlowRecord { backend: 2, seen: 101, state: state::ESTABLISHED };
        assert_eq!(record.idle(100), 0);
        assert!(record.speaks_for(Segment::Datagram, 100) && record.speaks_for(Segment::Opening, 100));
    }
}
