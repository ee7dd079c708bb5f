//! Numbers and ages as people read them.

/// Units of counts, largest first.
const UNITS: [(u64, char); 6] = [
    (1_000_000_000_000_000_000, 'E'),
    (1_000_000_000_000_000, 'P'),
    (1_000_000_000_000, 'T'),
    (1_000_000_000, 'G'),
    (1_000_000, 'M'),
    (1_000, 'K'),
];

/// Up to five digits exactly, else rounded down to at most three with a decimal unit: `99999`, `100K`, `1.2M`.
pub(super) fn count(n: u64) -> String {
    let unit = UNITS.iter().find(|(unit, _)| n >= *unit);
    match unit {
        Some(&(unit, letter)) if n >= 100_000 => scaled(n, unit, letter),
        Some(_) | None => n.to_string(),
    }
}

fn scaled(n: u64, unit: u64, letter: char) -> String {
    match n / unit {
        whole @ 0..10 => format!("{whole}.{}{letter}", n % unit / (unit / 10)),
        whole => format!("{whole}{letter}"),
    }
}

/// Bytes in MiB with tenths, rounded up, so that something is never nothing: `0.1`, `28.3`.
pub(super) fn mebibytes(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// An age of two units at most: `45s`, `3m20s`, `2h5m`, `3d4h`, `20d`.
pub(super) fn age(seconds: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default().as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{}", rest(seconds % 60, 's')),
        600..7_200 => format!("{minutes}m"),
        7_200..86_400 => format!("{hours}h{}", rest(minutes % 60, 'm')),
        86_400..864_000 => format!("{days}d{}", rest(hours % 24, 'h')),
        864_000.. => format!("{days}d"),
    }
}

fn rest(n: u64, unit: char) -> String {
    if n == 0 { String::new() } else { format!("{n}{unit}") }
}

/// A short time with tenths of a second: `0.3s`; a longer one as [`age`].
pub(super) fn idle(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1}s") } else { age(seconds) }
}

/// A part of a whole in per cent, so that something is never `0%` nor less than all `100%`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let exact = u128::from(part) * 100 / u128::from(whole.max(1));
    if part > 0 && exact == 0 { "<1%".to_owned() } else { format!("{exact}%") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_at_most_five_characters() {
        let cases = [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100K"),
            (999_999, "999K"),
            (1_000_000, "1.0M"),
            (1_290_000, "1.2M"),
            (12_345_678, "12M"),
            (9_999_999_999, "9.9G"),
            (u64::MAX, "18E"),
        ];
        for (n, text) in cases {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn memory_has_tenths_and_is_not_less_than_it_is() {
        let shown = [0, 1, 1 << 20, (1 << 20) + 1, 29_674_700].map(mebibytes);
        assert_eq!(shown, ["0.0", "0.1", "1.0", "1.1", "28.3"]);
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let cases = [
            (-1.0, "0s"),
            (0.9, "0s"),
            (119.0, "119s"),
            (120.0, "2m"),
            (200.0, "3m20s"),
            (3_599.0, "59m"),
            (7_500.0, "2h5m"),
            (270_000.0, "3d3h"),
            (1_728_000.0, "20d"),
            (f64::NAN, "0s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn short_idle_times_have_tenths() {
        assert_eq!([0.26, 9.94, 10.0, 600.0].map(idle), ["0.3s", "9.9s", "10s", "10m"]);
    }

    #[test]
    fn something_is_never_nothing_and_a_part_never_all() {
        let shown = [(0, 10), (1, 1000), (999, 1000), (10, 10), (0, 0)].map(|(p, w)| percent(p, w));
        assert_eq!(shown, ["0%", "<1%", "99%", "100%", "0%"]);
    }
}
