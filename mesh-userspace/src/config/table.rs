//! Sizes of tables: primes, as Maglev needs (every backend's walk must reach every slot).

/// The largest primes below powers of 4; at the last, 5242 backends have 100 slots each.
const SIZES: [u32; 6] = [1021, 4093, 16_381, 65_521, 262_139, 1_048_573];

/// Slots per backend that keep shares within about 1 % of the weights (Maglev paper, §5.3).
const SLOTS_PER_BACKEND: usize = 100;

/// Backends that every table has room for, so that small services do not change their table when they grow.
const ROOM: usize = 20;

/// Slots for a service of `backends`, of which as many again may come: the smallest of the sizes that gives each
/// [`SLOTS_PER_BACKEND`], or the largest.
pub(super) fn default_size(backends: usize) -> u32 {
    let wanted = backends.saturating_mul(2).max(ROOM).saturating_mul(SLOTS_PER_BACKEND);
    let fits = |size: &u32| usize::try_from(*size).is_ok_and(|size| size >= wanted);
    SIZES.into_iter().find(fits).unwrap_or(1_048_573)
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
        let sizes = [0, 1, 20, 21, 81, 82, 327, 328, 1310, 1311, 5242, 5243, usize::MAX].map(default_size);
        let expected = [
            4093, 4093, 4093, 16_381, 16_381, 65_521, 65_521, 262_139, 262_139, 1_048_573, 1_048_573,
            1_048_573, 1_048_573,
        ];
        assert_eq!(sizes, expected);
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
