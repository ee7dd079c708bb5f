//! SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, §2): a hash that nobody can compute
//! without the key.

/// A key of 128 bits.
pub type Key = [u64; 2];

/// The hash of all words but of the last, and of the lower four bytes of that: of `N * 8 - 4` bytes in all.
#[inline(always)]
#[must_use]
pub fn siphash<const N: usize>([first, second]: Key, words: &[u64; N]) -> u64 {
    let mut state = State([
        first ^ 0x736f_6d65_7073_6575,
        second ^ 0x646f_7261_6e64_6f6d,
        first ^ 0x6c79_6765_6e65_7261,
        second ^ 0x7465_6462_7974_6573,
    ]);
    let length = (N as u64 * 8 - 4) << 56;
    for (at, word) in words.iter().enumerate() {
        let word = if at + 1 == N { word & 0xffff_ffff | length } else { *word };
        state.0[3] ^= word;
        state = state.round().round();
        state.0[0] ^= word;
    }
    state.0[2] ^= 0xff;
    let State([a, b, c, d]) = state.round().round().round().round();
    a ^ b ^ c ^ d
}

struct State([u64; 4]);

impl State {
    #[inline(always)]
    const fn round(self) -> Self {
        let Self([mut a, mut b, mut c, mut d]) = self;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        d = d.rotate_left(21) ^ a;
        b = b.rotate_left(17) ^ c;
        Self([a, b, c.rotate_left(32), d])
    }
}

#[cfg(test)]
mod tests {
    #![expect(deprecated, reason = "SipHash-2-4 by another hand")]
    use super::*;
    use core::hash::{Hasher as _, SipHasher};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_others_compute(key: [u64; 2], words: [u64; 6]) {
            let mut other = SipHasher::new_with_keys(key[0], key[1]);
            let bytes = words.map(u64::to_le_bytes);
            other.write(&bytes.as_flattened()[..44]);
            prop_assert_eq!(siphash(key, &words), other.finish());
        }
    }
}
