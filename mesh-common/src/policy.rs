//! Source policies: whom a service serves, by the prefixes of clients' addresses.
//!
//! A policy's prefixes are laid out as **boundaries**: addresses, in order, at which the verdict changes. How many of
//! them are not above an address tells its verdict, however many prefixes there are and however they lie in each other.
//! An index of the addresses' bits behind those that all boundaries share leads to the few boundaries that have to be
//! compared. Addresses are two words in host order; IPv4 as IPv4-mapped addresses, which have a part of their own.

/// Most boundaries of a part.
pub const MOST_BOUNDARIES: u32 = 1 << 21;

/// Most steps of a search: each halves what is left.
const MOST_STEPS: u32 = MOST_BOUNDARIES.ilog2() + 1;

/// Where the boundaries of one family stand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The first boundary.
    pub first: [u64; 2],
    /// The last one.
    pub last: [u64; 2],
    /// Where the boundaries begin in their array.
    pub boundaries_at: u32,
    /// How many there are.
    pub count: u32,
    /// Where the index begins in its array: for each value of its bits how many boundaries are below, and at the end all.
    pub index_at: u32,
    /// How many bits all boundaries share.
    pub shared: u8,
    /// How many bits behind those the index takes; at least one, at most 32.
    pub bits: u8,
    /// 1 if addresses below the first boundary are denied.
    pub denies: u8,
    /// Reserved, zero.
    pub reserved: u8,
}

/// Whom a service serves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// IPv4 clients.
    pub v4: Part,
    /// IPv6 clients.
    pub v6: Part,
}

const _: () = assert!(size_of::<Policy>() == 96);

/// 1 if an address is below another, else 0: what is borrowed when the other is taken from it. Without a branch, which
/// would go either way by chance, and whose both ways the verifier would walk.
#[inline(always)]
#[must_use]
const fn below([high, low]: [u64; 2], [other_high, other_low]: [u64; 2]) -> u32 {
    let borrowed = borrow(low, other_low, low.wrapping_sub(other_low));
    let borrowed = borrow(high, other_high, high.wrapping_sub(other_high).wrapping_sub(borrowed));
    #[expect(clippy::cast_possible_truncation, reason = "it is 0 or 1")]
    let below = borrowed as u32;
    below
}

/// What is borrowed when `taken` is taken from `from`, and `left` is left (Warren, Hacker's Delight, 2-13).
#[inline(always)]
const fn borrow(from: u64, taken: u64, left: u64) -> u64 {
    (!from & taken | (!from | taken) & left) >> 63
}

impl Part {
    /// The value that the index's bits have in an address that shares what all boundaries share.
    #[inline(always)]
    #[must_use]
    pub const fn cell(&self, [high, low]: [u64; 2]) -> u32 {
        let shared = self.shared & 63;
        // In two steps: no shift is as wide as a word.
        let window =
            if self.shared >= 64 { low << shared } else { high << shared | low >> 1 >> (63 - shared) };
        #[expect(clippy::cast_possible_truncation, reason = "there are at most 32 bits")]
        let cell = (window >> ((64 - self.bits) & 63)) as u32;
        cell
    }

    /// Whether a client is denied; `boundary` and `index` read the arrays. `None` where they say nothing.
    #[inline(always)]
    pub fn denies(
        &self,
        client: [u64; 2],
        boundary: impl Fn(u32) -> Option<[u64; 2]>,
        index: impl Fn(u32) -> Option<u32>,
    ) -> Option<bool> {
        let below = self.not_above(client, boundary, index)?;
        Some((below ^ u32::from(self.denies)) & 1 != 0)
    }

    /// How many boundaries are not above a client.
    #[inline(always)]
    fn not_above(
        &self,
        client: [u64; 2],
        boundary: impl Fn(u32) -> Option<[u64; 2]>,
        index: impl Fn(u32) -> Option<u32>,
    ) -> Option<u32> {
        if self.count == 0 || below(client, self.first) == 1 {
            return Some(0);
        }
        if below(client, self.last) == 0 {
            return Some(self.count);
        }
        let cell = self.index_at.wrapping_add(self.cell(client));
        let (mut low, mut high) = (index(cell)?, index(cell.wrapping_add(1))?);
        for _ in 0..MOST_STEPS {
            if low >= high {
                break;
            }
            let middle = low.wrapping_add(high) >> 1;
            // All ones if the client is below it: then this is the end, else the beginning is behind it.
            let mask = below(client, boundary(self.boundaries_at.wrapping_add(middle))?).wrapping_neg();
            high = high & !mask | middle & mask;
            low = low & mask | middle.wrapping_add(1) & !mask;
        }
        Some(low)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::abi::halves;
    use std::{vec, vec::Vec};

    fn words(address: u128) -> [u64; 2] {
        halves(address.to_be_bytes()).map(u64::from_be)
    }

    /// A part with these boundaries, its index, and how many there are not above an address.
    fn part(boundaries: &[u128], shared: u8, bits: u8) -> (Part, Vec<u32>) {
        let (first, last) = (words(boundaries[0]), words(*boundaries.last().unwrap()));
        let count = u32::try_from(boundaries.len()).unwrap();
        let part = Part { first, last, count, shared, bits, ..Part::default() };
        let cells = 1_u32 << bits;
        let below = |cell| boundaries.iter().filter(|it| part.cell(words(**it)) < cell).count();
        let index = (0..cells).map(|cell| u32::try_from(below(cell)).unwrap()).chain([count]).collect();
        (part, index)
    }

    #[test]
    fn a_client_is_found_between_the_boundaries() {
        let v4 = |a: u128, b: u128| 0xffff << 32 | a << 24 | b;
        let v6 = |high: u128, low: u128| 0x2001_0db8 << 96 | high << 64 | low;
        for (boundaries, shared) in [
            (vec![v4(10, 0), v4(10, 256), v4(11, 7), v4(11, 8)], 96),
            (vec![v4(192, 1), v4(192, 2)], 126),
            (vec![v6(0, 0), v6(0, 1), v6(1, 0), v6(1, 1 << 63), v6(2, 0)], 62),
            (vec![v6(5, 9), v6(5, 10), v6(5, 1 << 40)], 64),
            (vec![1, u128::MAX], 0),
            (vec![v4(10, 0)], 127),
        ] {
            for bits in [1, 2, 5].into_iter().filter(|bits| shared + bits <= 128) {
                let (part, index) = part(&boundaries, shared, bits);
                let near = boundaries.iter().flat_map(|it| [it.wrapping_sub(1), *it, it.wrapping_add(1)]);
                for client in near.chain([0, u128::MAX, 77]) {
                    let read = |at: u32| boundaries.get(at as usize).map(|it| words(*it));
                    let look = |at: u32| index.get(at as usize).copied();
                    let expected = boundaries.iter().filter(|it| **it <= client).count();
                    let found = part.not_above(words(client), read, look);
                    assert_eq!(
                        found,
                        u32::try_from(expected).ok(),
                        "{client:x} of {boundaries:x?}, {bits} bits"
                    );
                    let denied = part.denies(words(client), read, look);
                    assert_eq!(denied, Some(expected % 2 != 0));
                    let otherwise = Part { denies: 1, ..part }.denies(words(client), read, look);
                    assert_eq!(otherwise, Some(expected % 2 == 0));
                }
            }
        }
    }

    #[test]
    fn who_has_no_boundaries_has_one_verdict() {
        for denies in [0, 1] {
            let part = Part { denies, ..Part::default() };
            assert_eq!(part.denies([1, 2], |_| None, |_| None), Some(denies == 1));
        }
    }

    #[test]
    fn tables_that_say_nothing_are_told() {
        let (part, index) = part(&[5, 9, 12], 0, 1);
        assert_eq!(part.denies([0, 7], |_| None, |_| None), None);
        assert_eq!(part.denies([0, 7], |_| None, |at| index.get(at as usize).copied()), None);
    }
}
