//! What was ever recorded: a bitmap in front of the flow table.
//!
//! At a slot whose owner changes nearly every packet is of a flow that has no record, and each look for it would be a
//! cache miss. A flow of whose two bits one is not set **surely has no record**; one whose bits are set may have one.
//!
//! Bits are never taken back one by one, for others may stand on them. So that the bitmap does not fill up for ever,
//! there are two **generations** of it, of which one counts. Who writes a new record first sets its bits in both. The
//! agent clears the one that does not count, marks what is recorded, and lets it count: two [`Step`]s, each of them after
//! a grace period (until no packet is on its way that began before):
//!
//! 1. before [`Step::Clear`], since a packet may have seen that the generation to be cleared counts;
//! 2. before [`Step::Fill`], since a packet may have set its bits before they were cleared, and write its record only now.
//!
//! An agent that ends between any two stores leaves a generation that counts and has everything; the next agent begins
//! with the first step. Which generation counts is a part of the address of the word that is read then, so that on no
//! processor the word is read first.

#[cfg(test)]
mod tests;

use crate::table::CHECK_SHIFT;

/// Words in front of the first generation, a cache line: the first says which generation counts, 0 or 1, the others are
/// reserved. The second generation follows the first.
pub const HEAD: u32 = 8;

/// A flow as the filter knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// From a flow's key, or from the word of its record ([`crate::table::pack`]): it follows from those bits that both
    /// have, so that who finds a flow's record has found its mark, too, whatever was overtaken when it was written.
    #[inline(always)]
    #[must_use]
    pub const fn of(key_or_record: u64) -> Self {
        // Flows of one slot are alike in the upper bits.
        Self((key_or_record >> CHECK_SHIFT).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Its word, in a generation of so many.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, words: u32) -> u32 {
        (((self.0 >> 32) * words as u64) >> 32) as u32
    }

    /// Its bits in the word: two, or one if they meet.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u64 {
        1 << (self.0 >> 26 & 63) | 1 << (self.0 >> 32 & 63)
    }

    /// Whether they are set.
    #[inline(always)]
    #[must_use]
    pub const fn is_in(self, word: u64) -> bool {
        word & self.bits() == self.bits()
    }
}

/// Where a generation's word stands among the words of both.
#[inline(always)]
#[must_use]
pub const fn index(generation: u64, word: u32, words: u32) -> usize {
    (generation & 1) as usize * words as usize + word as usize
}

/// The generation that does not count while this one does.
#[must_use]
pub const fn other(generation: u64) -> u64 {
    !generation & 1
}

/// What the agent does to the generation that does not count; before each step it waits for a grace period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// Clears it. Where to begin when nothing is known of steps before.
    #[default]
    Clear,
    /// Sets the bits of all records, and then lets it count.
    Fill,
}

/// Whether a generation of so many words, of whose bits so many are set, is worn: three in sixteen of its bits, or more,
/// are those of records that are no longer there, so that 3.5 % of lookups meet two of them.
#[must_use]
pub const fn is_worn(set: u64, records: u64, words: u32) -> bool {
    let (bits, marks) = (words as u64 * 64, records.saturating_mul(2));
    // Of marks at random fall on different bits at least so many: x / (1 + x) is less than 1 - e^-x.
    let fresh = marks.saturating_mul(bits) / marks.saturating_add(bits).saturating_add(1);
    set.saturating_sub(fresh) > bits / 16 * 3
}
