//! What an answer has to contain.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// Memory that a compiled expression may take: bytes. There is one for each service.
const MOST_COMPILED: usize = 1 << 20;

/// What an answer has to contain.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// These bytes.
    Text(String),
    /// Something that this expression matches.
    Regex(Regex),
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It is none, or too large.
    pub fn regex(expression: &str) -> Result<Self, regex::Error> {
        RegexBuilder::new(expression).size_limit(MOST_COMPILED).build().map(Self::Regex)
    }

    /// Whether an answer contains it.
    #[must_use]
    pub fn is_in(&self, answer: &[u8]) -> bool {
        match self {
            Self::Text(text) => answer.windows(text.len().max(1)).any(|part| part == text.as_bytes()),
            Self::Regex(regex) => regex.is_match(answer),
        }
    }

    /// As written in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Regex(regex) => regex.as_str(),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        let is_text = |pattern: &Self| matches!(pattern, Self::Text(_));
        (is_text(self), self.as_str()) == (is_text(other), other.as_str())
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Regex(regex) => write!(f, "a match of {:?}", regex.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_anywhere_and_expressions_where_they_say() {
        let (text, regex) = (Pattern::Text("ok".into()), Pattern::regex("^ok$").unwrap());
        assert!(text.is_in(b"\xff is ok!") && !regex.is_in(b"\xff is ok!"));
        assert!(text.is_in(b"ok") && regex.is_in(b"ok"));
        assert!(!text.is_in(b"o") && !text.is_in(b"") && !regex.is_in(b""));
    }

    #[test]
    fn a_text_is_not_the_expression_of_the_same_letters() {
        assert_ne!(Pattern::Text("ok".into()), Pattern::regex("ok").unwrap());
        assert_eq!(Pattern::regex("ok").unwrap(), Pattern::regex("ok").unwrap());
    }

    #[test]
    fn an_expression_that_would_take_much_memory_is_refused() {
        assert!(Pattern::regex("(a{1000}){1000}").is_err());
    }
}
