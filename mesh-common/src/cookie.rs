//! SYN cookies (RFC 4987 §3.6): where too many connections begin, nothing is kept of one before its client has shown that
//! it gets what is sent to its address. What its SYN offered stands in the number that ours begins with, and comes back.
//!
//! ```text
//! 31 ……………………… 10    9       8 …… 5   4 … 2   1 … 0
//! keyed hash of it all   SACK?   scale    MSS     period
//! ```
//!
//! Not the kernel's (`bpf_tcp_raw_gen_syncookie_ipv4`, kernel 6.0): theirs have no room for the window scale without
//! timestamps, which would have to be rewritten in every later segment, and their keys are gone with a program. Who guesses
//! is right once in 2^23 tries.

use crate::{
    flow::Ticks,
    handshake::Options,
    siphash::{Key, siphash},
    tuple::Tuple,
};

/// The segment sizes that are told apart: what IPv4 and IPv6 start from, and what common links leave of a packet.
const SIZES: [u16; 8] = [536, 1200, 1220, 1360, 1400, 1440, 1460, 8940];

/// Windows that are not shifted.
const UNSHIFTED: u8 = 15;

/// The longest shift (RFC 7323 §2.3).
const LONGEST_SHIFT: u8 = 14;

/// Bits that a cookie says its offer and period in.
const SAID: u32 = 10;

/// How long a period is: 69 s. A cookie holds in its own and in the next.
const PERIOD: u32 = 6;

/// What a cookie says of options.
#[inline(always)]
fn bits(options: Options) -> u32 {
    let [_, a, b, c, d, e, f, g] = SIZES;
    let above = |size: u16| u32::from(size <= options.size);
    let size = above(a) + above(b) + above(c) + above(d) + above(e) + above(f) + above(g);
    let shift = match options.shift {
        Some(shift) if shift > LONGEST_SHIFT => LONGEST_SHIFT,
        Some(shift) => shift,
        None => UNSHIFTED,
    };
    u32::from(options.sack) << 9 | u32::from(shift) << 5 | size << 2
}

/// The options of the SYN that a cookie was baked for, its segment size rounded down.
#[inline(always)]
#[must_use]
pub const fn options(cookie: u32) -> Options {
    let shift = (cookie >> 5 & 15) as u8;
    let [a, b, c, d, e, f, g, h] = SIZES;
    Options {
        size: match cookie >> 2 & 7 {
            0 => a,
            1 => b,
            2 => c,
            3 => d,
            4 => e,
            5 => f,
            6 => g,
            _ => h,
        },
        shift: if shift == UNSHIFTED { None } else { Some(shift) },
        sack: cookie & 1 << 9 != 0,
    }
}

/// The number that the answer to a SYN begins with. The tuple is the SYN's, `number` what it begins with.
#[inline(always)]
#[must_use]
pub fn bake(key: Key, tuple: &Tuple, number: u32, options: Options, now: Ticks) -> u32 {
    seal(key, tuple, number, bits(options) | now >> PERIOD & 3)
}

/// Whether a cookie was baked for a SYN that began so, and not too long ago.
#[inline(always)]
#[must_use]
pub fn is_good(key: Key, tuple: &Tuple, number: u32, cookie: u32, now: Ticks) -> bool {
    let said = cookie & ((1 << SAID) - 1);
    let age = (now >> PERIOD).wrapping_sub(said) & 3;
    age <= 1 && seal(key, tuple, number, said) == cookie
}

#[inline(always)]
fn seal(key: Key, tuple: &Tuple, number: u32, said: u32) -> u32 {
    let ([a, b], [c, d]) = (tuple.source, tuple.destination);
    let ports = u64::from(tuple.ports()) | u64::from(number) << 32;
    let hash = siphash(key, &[a, b, c, d, ports, said.into()]);
    #[expect(clippy::cast_possible_truncation, reason = "as much as there is room for")]
    let hash = hash as u32;
    hash & !((1 << SAID) - 1) | said
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = [1, 2];
    const OPTIONS: Options = Options { size: 1460, shift: Some(7), sack: true };

    fn tuple(port: u16) -> Tuple {
        let ([source, destination], destination_port) = ([[1, 2], [3, 4]], 80);
        Tuple { source, destination, source_port: port, destination_port, ..Tuple::default() }
    }

    proptest! {
        #[test]
        fn what_was_offered_comes_back(size: u16, shift in proptest::option::of(0u8..=14), sack: bool, number: u32) {
            let cookie = bake(KEY, &tuple(7), number, Options { size, shift, sack }, 100);
            let said = options(cookie);
            prop_assert_eq!((said.shift, said.sack), (shift, sack));
            prop_assert!(said.size <= size.max(536));
        }

        #[test]
        fn a_cookie_is_good_for_two_periods(number: u32, now: u32) {
            let cookie = bake(KEY, &tuple(7), number, OPTIONS, now);
            let good = [0, 64, 128, 192].map(|age| is_good(KEY, &tuple(7), number, cookie, now.wrapping_add(age)));
            prop_assert_eq!(good, [true, true, false, false]);
        }
    }

    #[test]
    fn nobody_elses_cookie_is_good() {
        let mut right = 0;
        for number in 0..10_000 {
            let cookie = bake(KEY, &tuple(7), number, OPTIONS, 100);
            right += u32::from(is_good([1, 3], &tuple(7), number, cookie, 100));
            right += u32::from(is_good(KEY, &tuple(8), number, cookie, 100));
            right += u32::from(is_good(KEY, &tuple(7), number + 1, cookie, 100));
        }
        assert_eq!(right, 0);
    }

    #[test]
    fn sizes_are_rounded_down_and_shifts_cut() {
        let said = |options| super::options(bake(KEY, &tuple(7), 1, options, 100));
        let size = |size| said(Options { size, ..OPTIONS }).size;
        assert_eq!([0, 536, 1199, 1460, 1461, u16::MAX].map(size), [536, 536, 536, 1460, 1460, 8940]);
        assert_eq!(said(Options { shift: Some(200), ..OPTIONS }).shift, Some(14));
    }
}
