//! HTTP statuses that are successes: ranges, written as `200-299,304`.

use std::fmt;
use std::ops::RangeInclusive;

/// Statuses that are successes; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// What a status may be (RFC 9110 §15).
    pub const ALL: RangeInclusive<u16> = 100..=599;

    /// One status.
    #[must_use]
    pub fn one(status: u16) -> Self {
        Self(vec![status..=status])
    }

    /// These ranges; `None` if one is empty or holds what no status may be, or there is none.
    #[must_use]
    pub fn of(ranges: Vec<RangeInclusive<u16>>) -> Option<Self> {
        let fits = |range: &RangeInclusive<u16>| {
            !range.is_empty() && Self::ALL.contains(range.start()) && Self::ALL.contains(range.end())
        };
        (!ranges.is_empty() && ranges.iter().all(fits)).then_some(Self(ranges))
    }

    /// Reads `200-299,304`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        };
        text.split(',').map(range).collect::<Option<_>>().and_then(Self::of)
    }

    /// Whether a status is a success.
    #[must_use]
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let or = if i == 0 { "" } else { " or " };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{or}{first}")?,
                (first, last) => write!(f, "{or}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_statuses_are_read_and_shown() {
        let statuses = Statuses::parse("200-299, 304").unwrap();
        assert!([200, 204, 299, 304].iter().all(|status| statuses.contain(*status)));
        assert!([199, 300, 303, 305, 500].iter().all(|status| !statuses.contain(*status)));
        assert_eq!(statuses.to_string(), "200-299 or 304");
    }

    #[test]
    fn what_no_status_may_be_is_refused() {
        for text in ["", "2xx", "99", "600", "299-200", "200-600", "200,", "200-", "-1"] {
            assert_eq!(Statuses::parse(text), None, "{text:?}");
        }
    }
}
