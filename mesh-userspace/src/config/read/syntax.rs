//! Text that is not TOML.

use crate::config::Problem;

/// The parser's error with advice.
pub(super) fn problem(error: &toml::de::Error) -> Problem {
    let message = error.message();
    Problem::new(message).advise(advice(message)).at(error.span().unwrap_or_default())
}

fn advice(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "keep one of the two; a table that may be repeated is written [[service]] or [[service.backend]]"
    } else if message.contains("must be quoted") || message.contains("invalid value") {
        "put text in quotes, such as name = \"web\""
    } else if message.contains("recur") {
        "nest tables at most as deep as [service.health]"
    } else if message.contains("unclosed") {
        "close what was opened"
    } else {
        "one `key = value` or [section] per line; values are \"text\", numbers, true, false or [lists]"
    }
}
