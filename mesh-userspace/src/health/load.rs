//! Loads that backends say of themselves: 0 idle, 1 all that they can do.

use std::mem::discriminant;

/// An answer that should have said a load does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Nothing is said.
    #[error("its answers have no header {header:?}")]
    Missing {
        /// The header.
        header: String,
    },
    /// Something else is said.
    #[error("its header {header:?} is {value:?}, not a number from 0 to {MOST_LOAD}")]
    NoNumber {
        /// The header.
        header: String,
        /// Its value, or the beginning.
        value: String,
    },
    /// Several things are said.
    #[error("its answers have the header {header:?} several times")]
    Repeated {
        /// The header.
        header: String,
    },
}

impl LoadError {
    /// Whether this is the same trouble: another value of the same kind is no news.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other)
    }
}

/// Far more than any backend can bear.
pub const MOST_LOAD: f64 = 1000.0;

/// A number, if it is a load.
#[must_use]
pub fn load(number: f64) -> Option<f64> {
    Some(number).filter(|number| (0.0..=MOST_LOAD).contains(number))
}

/// The load that a text says.
#[must_use]
pub(super) fn parse_load(text: &str) -> Option<f64> {
    text.trim().parse().ok().and_then(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_numbers_of_a_scale() {
        let [none, some, over] = ["0", " 0.75 ", "1e1"].map(parse_load);
        assert_eq!((none, some, over), (Some(0.0), Some(0.75), Some(10.0)));
        for wrong in ["", "busy", "-0.1", "70%", "0,7", "NaN", "inf", "1001", "0.1, 0.2"] {
            assert_eq!(parse_load(wrong), None, "{wrong:?}");
        }
    }
}
