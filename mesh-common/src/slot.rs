//! A slot: one word of a service's table that says who gets the flows which hash to it.
//!
//! A slot names `current`, who gets new flows, and `untracked`, who owns every flow that is not in the flow table,
//! and says whether the flow table is consulted and whether flows found missing there are recorded.
//! **Invariant: all live flows of a slot that are not recorded belong to exactly `untracked`.** So `current` may change
//! at any time, `untracked` only when its flows are all recorded or dead.
//!
//! ```text
//!  63         62 ……… 32        31         30 ………… 0
//!  consult?   untracked id     record?    current id
//! ```

/// A slot's value; it is read and written as one aligned word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot(pub u64);

/// What a slot is going through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The table alone gives the answer.
    Steady,
    /// The owner changed and the previous one is alive: flows are told apart and recorded.
    Migrating,
    /// Everyone who is not recorded belongs to `current`; records are still honoured.
    Settling,
}

impl Slot {
    /// The highest backend id that a slot can name.
    pub const MAX_ID: u32 = FLAG - 1;

    /// A slot that belongs to one backend, with no flow table.
    #[inline(always)]
    #[must_use]
    pub const fn steady(backend: u32) -> Self {
        Self::new(backend, backend, false, false)
    }

    /// A slot from its parts; ids above [`Self::MAX_ID`] are cut.
    #[inline(always)]
    #[must_use]
    pub const fn new(current: u32, untracked: u32, consult: bool, record: bool) -> Self {
        let low = current & Self::MAX_ID | if record { FLAG } else { 0 };
        let high = untracked & Self::MAX_ID | if consult { FLAG } else { 0 };
        Self(low as u64 | (high as u64) << 32)
    }

    /// Who gets new flows.
    #[inline(always)]
    #[must_use]
    pub const fn current(self) -> u32 {
        self.low() & Self::MAX_ID
    }

    /// Who owns every flow that is not recorded.
    #[inline(always)]
    #[must_use]
    pub const fn untracked(self) -> u32 {
        self.high() & Self::MAX_ID
    }

    /// Whether the flow table has a say.
    #[inline(always)]
    #[must_use]
    pub const fn consults(self) -> bool {
        self.0.cast_signed() < 0
    }

    /// Whether flows that are not recorded become so with their next packet.
    #[inline(always)]
    #[must_use]
    pub const fn records(self) -> bool {
        self.low() & FLAG != 0
    }

    /// The phase that the parts amount to.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match (self.consults(), self.current() == self.untracked()) {
            (false, _) => Phase::Steady,
            (true, false) => Phase::Migrating,
            (true, true) => Phase::Settling,
        }
    }

    #[inline(always)]
    const fn low(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
        let low = self.0 as u32;
        low
    }

    #[inline(always)]
    const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

const FLAG: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_come_back(current in 0..=Slot::MAX_ID, untracked in 0..=Slot::MAX_ID, consult: bool, record: bool) {
            let slot = Slot::new(current, untracked, consult, record);
            prop_assert_eq!(slot.current(), current);
            prop_assert_eq!(slot.untracked(), untracked);
            prop_assert_eq!(slot.consults(), consult);
            prop_assert_eq!(slot.records(), record);
        }
    }

    #[test]
    fn zeroed_memory_names_nobody() {
        assert_eq!(Slot::default(), Slot::steady(0));
        assert_eq!(Slot::default().phase(), Phase::Steady);
    }
}
