//! The Internet checksum (RFC 1071), and its update when one word changes (RFC 1624).
//!
//! Sums are of 16-bit words **as they stand in memory**: the ones' complement sum does not depend on byte order
//! (RFC 1071 §2B), so nothing is swapped.

/// Adds the 16-bit words of `bytes` to `sum`; `bytes` has an even length, an odd last byte is not counted.
#[must_use]
pub fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .fold(sum, |sum, word| sum.wrapping_add(u32::from(u16::from_ne_bytes(*word))))
}

/// Adds 32-bit words, as two 16-bit words each, to `sum`.
#[inline(always)]
#[must_use]
pub fn add_words(sum: u32, words: &[u32]) -> u32 {
    words.iter().fold(sum, |sum, word| sum + (word & 0xffff) + (word >> 16))
}

/// Whether words that hold their checksum add up to it (RFC 1071 §1): `sum` is that of fewer than 2^16 words of 32 bits or
/// less, not all 0, with all carries.
#[inline(always)]
#[must_use]
pub const fn adds_up(sum: u64) -> bool {
    // All ones folded: a multiple of 65535, which is what times its inverse is no more than so many times 65535 fit.
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const { assert!(INVERSE.wrapping_mul(0xffff) == 1) };
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// Whether an IPv4 header without options has its checksum.
#[inline(always)]
#[must_use]
pub const fn is_right(header: [u32; 5]) -> bool {
    adds_up(sum(header))
}

/// The sum of the words of an IPv4 header without options, with all carries.
#[inline(always)]
#[must_use]
pub const fn sum([a, b, c, d, e]: [u32; 5]) -> u64 {
    a as u64 + b as u64 + c as u64 + d as u64 + e as u64
}

/// Folds a sum of up to 2^16 words and complements it: the field's value.
#[inline(always)]
#[must_use]
pub const fn finish(sum: u32) -> u16 {
    // In 64 bits, which the kernel's machine has anyway: 32 would be cut out of them at each step.
    let sum = (sum & 0xffff) as u64 + (sum >> 16) as u64;
    #[expect(clippy::cast_possible_truncation, reason = "folded twice, 16 bits are left")]
    let folded = (sum + (sum >> 16)) as u16;
    !folded
}

/// The checksum field after one 16-bit word changed from `old` to `new` (RFC 1624, equation 3).
#[inline(always)]
#[must_use]
pub const fn update(field: u16, old: u16, new: u16) -> u16 {
    finish(!field as u32 + !old as u32 + new as u32)
}

/// The word of an IPv4 header that holds TTL, protocol and checksum, with another TTL.
#[inline(always)]
#[must_use]
pub const fn with_ttl(word: u32, ttl: u8) -> u32 {
    let [old, protocol, first, second] = word.to_ne_bytes();
    let [old, new] = [u16::from_ne_bytes([old, protocol]), u16::from_ne_bytes([ttl, protocol])];
    let [first, second] = update(u16::from_ne_bytes([first, second]), old, new).to_ne_bytes();
    u32::from_ne_bytes([ttl, protocol, first, second])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 1071 §3.
    #[test]
    fn sums_as_in_the_rfc() {
        let sum = add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((!finish(sum)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn words_with_their_checksum_add_up_and_others_do_not(words: [u16; 30], wrong in 1u16..0xffff) {
            let sum = |field: u16| words.iter().map(|word| u64::from(*word)).sum::<u64>() + u64::from(field);
            let field = finish(words.iter().map(|word| u32::from(*word)).sum());
            prop_assume!(sum(field) != 0);
            prop_assert!(adds_up(sum(field)));
            prop_assert!(!adds_up(sum(field.wrapping_add(wrong)) + u64::from(field > u16::MAX - wrong)));
        }

        #[test]
        fn an_update_equals_a_new_sum(mut words in prop::array::uniform9(any::<u16>()), at in 0usize..9, new: u16) {
            let sum = |words: &[u16]| finish(words.iter().map(|word| u32::from(*word)).sum());
            prop_assume!(words.iter().any(|word| *word != 0));
            let field = sum(&words);
            let old = core::mem::replace(&mut words[at], new);
            prop_assume!(words.iter().any(|word| *word != 0));
            prop_assert_eq!(update(field, old, new), sum(&words));
        }
    }
}
