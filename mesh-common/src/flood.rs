//! When more flows of a service begin than there is any use in remembering.

use crate::flow::Ticks;

/// How many flows of a service begin: an element of the map `FLOODS`, by the service's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flood {
    /// Of even ticks and of odd ones, the last: the tick, and in the lower half how many flows began in it.
    pub begun: [u64; 2],
    /// More in a tick are a flood; 0: any number is none.
    pub limit: u32,
    /// When a SYN was last answered by a cookie; 0: never.
    pub answered: Ticks,
}

const _: () = assert!(size_of::<Flood>() == 24);

/// For how long a cookie can come back, in ticks.
const COOKIES_LIVE: Ticks = 128;

impl Flood {
    /// Where flows that begin in a tick are counted.
    #[inline(always)]
    #[must_use]
    pub const fn place(now: Ticks) -> usize {
        (now & 1) as usize
    }

    /// The first flow that is counted in a tick.
    #[inline(always)]
    #[must_use]
    pub const fn first(now: Ticks) -> u64 {
        (now as u64) << 32 | 1
    }

    /// How many flows were counted in a tick.
    #[inline(always)]
    #[must_use]
    pub const fn in_tick(&self, tick: Ticks) -> u32 {
        let [even, odd] = self.begun;
        let word = if Self::place(tick) == 0 { even } else { odd };
        #[expect(clippy::cast_possible_truncation, reason = "cut on purpose")]
        let (counted, count) = ((word >> 32) as Ticks, word as u32);
        if counted == tick { count } else { 0 }
    }

    /// Whether so many are too many.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(&self, count: u32) -> bool {
        self.limit != 0 && count > self.limit
    }

    /// Whether there are too many, or were in the tick before: no flood begins anew with every tick.
    #[inline(always)]
    #[must_use]
    pub const fn is_on(&self, now: Ticks) -> bool {
        self.is_over(self.in_tick(now)) || self.is_over(self.in_tick(now.wrapping_sub(1)))
    }

    /// Whether clients may still come back with cookies.
    #[inline(always)]
    #[must_use]
    pub const fn expects_cookies(&self, now: Ticks) -> bool {
        self.answered != 0 && now.wrapping_sub(self.answered) <= COOKIES_LIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(limit: u32, ticks: &[(Ticks, u64)]) -> Flood {
        let mut flood = Flood { limit, ..Flood::default() };
        for &(tick, count) in ticks {
            flood.begun[Flood::place(tick)] = Flood::first(tick) + count - 1;
        }
        flood
    }

    #[test]
    fn a_flood_lasts_until_a_whole_tick_was_quiet() {
        let flood = counted(100, &[(6, 101)]);
        assert_eq!([5, 6, 7, 8].map(|now| flood.is_on(now)), [false, true, true, false]);
        let flood = counted(100, &[(6, 101), (7, 3)]);
        assert_eq!([6, 7, 8].map(|now| flood.is_on(now)), [true, true, false]);
        assert!(!counted(100, &[(6, 100)]).is_on(6));
    }

    #[test]
    fn without_a_limit_there_is_none() {
        assert!(!counted(0, &[(6, u64::from(u32::MAX))]).is_on(6));
    }

    #[test]
    fn ticks_of_long_ago_do_not_count() {
        let flood = counted(1, &[(6, 50)]);
        assert!(!flood.is_on(6 + 2) && !flood.is_on(6 + 256));
        assert_eq!(flood.in_tick(8), 0);
    }

    #[test]
    fn cookies_are_expected_as_long_as_they_are_good() {
        let flood = Flood { answered: 10, ..Flood::default() };
        assert!(flood.expects_cookies(10) && flood.expects_cookies(138) && !flood.expects_cookies(139));
        assert!(!Flood::default().expects_cookies(5));
    }
}
