//! Where log lines go: to standard error, as text or JSON, filtered by `[log] level` or, stronger, by `MESHLB_LOG`.
//!
//! Invariant: at most one subscriber per process; a second [`init`] is an error and changes nothing.

use std::env::{self, VarError};
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};

/// The environment variable that overrides `[log] level`.
pub const VARIABLE: &str = "MESHLB_LOG";

/// Why nothing will be logged.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("the log filter {filter:?} of {origin} cannot be used: {source}")]
    Filter {
        /// The filter as it was written.
        filter: String,
        /// The environment variable or the configuration's key.
        origin: &'static str,
        /// What is wrong with it.
        source: FilterError,
    },
    /// The environment variable is not UTF-8.
    #[error("{VARIABLE} is not UTF-8 text")]
    NotUtf8,
    /// Another subscriber is there already.
    #[error("logging is set up already")]
    AlreadySetUp(#[from] TryInitError),
}

/// Why a filter cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Nothing, or a single word that is not a level. `EnvFilter` would take it for a module's name and log nothing else.
    #[error("no such level")]
    NotALevel,
    /// A directive that `EnvFilter` does not know.
    #[error(transparent)]
    Syntax(#[from] ParseError),
}

/// Sets up logging for the whole process.
///
/// # Errors
/// The filter cannot be read, or logging is set up already.
pub fn init(log: &Log) -> Result<(), LoggingError> {
    let filter = filter(log, variable(env::var(VARIABLE))?.as_deref())?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// An empty variable counts as unset.
fn variable(variable: Result<String, VarError>) -> Result<Option<String>, LoggingError> {
    match variable {
        Ok(filter) => Ok(Some(filter).filter(|filter| !filter.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(LoggingError::NotUtf8),
    }
}

fn filter(log: &Log, variable: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let (filter, origin) = variable.map_or((log.level.as_str(), "log.level"), |filter| (filter, VARIABLE));
    parse(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), origin, source })
}

/// Reads a filter: a level, or `EnvFilter`'s directives.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    let word = filter.chars().all(char::is_alphanumeric);
    if filter.is_empty() || (word && filter.parse::<LevelFilter>().is_err()) {
        return Err(FilterError::NotALevel);
    }
    Ok(EnvFilter::builder().parse(filter)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(text: &str) -> Log {
        Log { level: text.to_owned(), ..Log::default() }
    }

    #[test]
    fn the_variable_wins_over_the_configuration() {
        assert_eq!(filter(&level("info"), Some("debug")).unwrap().to_string(), "debug");
        assert_eq!(filter(&level("info"), None).unwrap().to_string(), "info");
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        assert_eq!(variable(Ok(String::new())).unwrap(), None);
        assert_eq!(variable(Err(VarError::NotPresent)).unwrap(), None);
        assert_eq!(variable(Ok("warn".into())).unwrap().as_deref(), Some("warn"));
    }

    #[test]
    fn a_bad_filter_is_named_with_its_origin() {
        let text = filter(&level("info"), Some("a=b=c")).unwrap_err().to_string();
        assert!(text.contains("\"a=b=c\" of MESHLB_LOG"), "{text}");
        let text = filter(&level("a=b=c"), None).unwrap_err().to_string();
        assert!(text.contains("of log.level"), "{text}");
    }

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_module() {
        assert!(matches!(parse("inf"), Err(FilterError::NotALevel)));
        assert!(matches!(parse(""), Err(FilterError::NotALevel)));
        assert!(parse("INFO").is_ok() && parse("info,mesh_userspace::health=debug").is_ok());
    }

    #[test]
    fn a_second_setup_is_refused_without_a_panic() {
        let both = [init(&Log::default()), init(&level("debug"))];
        assert!(both[0].is_ok());
        assert!(matches!(both[1], Err(LoggingError::AlreadySetUp(_))));
    }
}
