//! Sizes of tables: primes, as their filling needs (every backend's walk must reach every slot).

/// The largest primes below powers of 2, from 2^8 on; at the last, 10485 backends have 100 slots each.
const SIZES: [u32; 13] =
    [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071, 262_139, 524_287, LARGEST];

const LARGEST: u32 = 1_048_573;

/// Slots per backend that keep shares within about 1 % of the weights (Maglev paper, §5.3).
const SLOTS_PER_BACKEND: u32 = 100;

/// Backends that a table has room for unless told otherwise, so that small services do not outgrow theirs at once.
const ROOM: u32 = 10;

/// Slots for a service of so many backends: the smallest of the sizes that gives each [`SLOTS_PER_BACKEND`], or the
/// largest.
pub(super) fn size_for(backends: u32) -> u32 {
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(LARGEST)
}

/// Slots for a service that does not say how many backends it expects beside those that it has.
pub(super) fn default_size(backends: usize) -> u32 {
    size_for(u32::try_from(backends).unwrap_or(u32::MAX).max(ROOM))
}

/// Whether `number` is a prime; at most 64 Ki divisions.
pub(super) fn is_prime(number: u32) -> bool {
    let square_fits = |divisor: &u32| divisor.checked_mul(*divisor).is_some_and(|square| square <= number);
    number >= 2 && (2..).take_while(square_fits).all(|divisor| !number.is_multiple_of(divisor))
}

/// The smallest prime that is at least `number`; the largest that fits 32 bits when there is none.
pub(super) fn next_prime(number: u32) -> u32 {
    (number..=u32::MAX).find(|&n| is_prime(n)).unwrap_or(4_294_967_291)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_sizes_are_primes_that_grow_with_the_backends() {
        assert!(SIZES.into_iter().all(is_prime));
        let sizes = [0, 1, 10, 11, 20, 21, 40, 41, 10_485, 10_486, usize::MAX].map(default_size);
        let expected = [1021, 1021, 1021, 2039, 2039, 4093, 4093, 8191, 1_048_573, 1_048_573, 1_048_573];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn who_expects_few_backends_gets_a_small_table() {
        assert_eq!([1, 2, 3, 5, 6, 10].map(size_for), [251, 251, 509, 509, 1021, 1021]);
    }

    #[test]
    fn primes_are_told_from_other_numbers() {
        let primes: Vec<u32> = (0..30).filter(|&n| is_prime(n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(!is_prime(65_521 * 65_521) && is_prime(4_294_967_291));
    }

    #[test]
    fn the_next_prime_is_not_smaller() {
        assert_eq!([0, 4096, 65_521, u32::MAX].map(next_prime), [2, 4099, 65_521, 4_294_967_291]);
    }
}
