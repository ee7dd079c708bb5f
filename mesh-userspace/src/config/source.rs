//! The text of a configuration and its name: what errors point into.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::string::FromUtf8Error;

use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, Location, Problem, read};

/// The smallest configuration that is accepted.
pub(super) const SMALLEST: &str = "[agent]\ninterfaces = [\"eth0\"]";

/// Larger files are no configuration: bytes. A hundred thousand backends take 5 MiB.
const MOST_BYTES: u64 = 32 << 20;

/// A configuration's text under its name. Keep it beside the [`Config`] to point into the file later, when the host
/// turns out not to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// Takes text, without the byte order mark that some editors put before it.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        Self { name: name.into(), text }
    }

    /// Takes bytes that should be UTF-8 text.
    ///
    /// # Errors
    /// Says at which byte they are not.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(name, text)),
            Err(error) => Err(not_utf8(name.into(), &error)),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 32 MiB, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match read_bytes(path) {
            Ok(bytes) => Self::from_bytes(name, bytes),
            Err(error) => Err(Self::new(name, "").error(unreadable(&error))),
        }
    }

    /// The file's name, as it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Parses and validates the text.
    ///
    /// # Errors
    /// Says everything that is wrong with it, or the first thing when it is not TOML.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        read::config(&self.text).map_err(|problems| ConfigError::new(self.clone(), problems))
    }

    /// Where `agent.interfaces` names `interface`; `None` when it does not.
    #[must_use]
    pub fn locate_interface(&self, interface: &str) -> Option<Location> {
        interface_span(&self.text, interface).map(|span| self.locate(span.start))
    }

    /// An error about an entry of `agent.interfaces` that only the host can tell, such as an interface that does not
    /// exist.
    #[must_use]
    pub fn interface_error(
        &self,
        interface: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> ConfigError {
        let span = interface_span(&self.text, interface).unwrap_or_default();
        self.error(Problem::new(message).advise(advice).at(span))
    }

    /// The line and column of a byte of the text.
    pub(super) fn locate(&self, offset: usize) -> Location {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
        let line = before.matches('\n').count();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let from_one = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        Location { line: from_one(line), column: from_one(column) }
    }

    fn error(&self, problem: Problem) -> ConfigError {
        ConfigError::new(self.clone(), vec![problem])
    }
}

fn interface_span(text: &str, interface: &str) -> Option<std::ops::Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let interfaces = root.get_ref().get("agent")?.get_ref().get("interfaces")?.get_ref().as_array()?;
    let names_it = |entry: &&toml::Spanned<DeValue<'_>>| entry.get_ref().as_str() == Some(interface);
    interfaces.iter().find(names_it).map(toml::Spanned::span)
}

/// Reads at most one byte more than allowed, so that a device without an end ends too.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(MOST_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= MOST_BYTES) {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of I/O errors are many and may become more")]
fn unreadable(error: &io::Error) -> Problem {
    use io::ErrorKind::{FileTooLarge, IsADirectory, NotFound, PermissionDenied};
    let advice = match error.kind() {
        NotFound => {
            format!("give the path of a file that exists; the smallest configuration is:\n{SMALLEST}")
        }
        PermissionDenied => "run as a user who may read the file, or change its mode".to_owned(),
        IsADirectory => "give the path of a file, such as /etc/meshlb/meshlb.toml".to_owned(),
        FileTooLarge => "a configuration has at most 32 MiB".to_owned(),
        _ => "give the path of a TOML file".to_owned(),
    };
    Problem::new(format!("the configuration cannot be read: {error}")).advise(advice)
}

/// The text is kept as it is, with its byte order mark, so that offsets are the file's.
fn not_utf8(name: String, error: &FromUtf8Error) -> ConfigError {
    let offset = error.utf8_error().valid_up_to();
    let source = Source { name, text: String::from_utf8_lossy(error.as_bytes()).into_owned() };
    let problem = Problem::new(format!("the file is not UTF-8 text: byte {offset} begins no character"))
        .advise("a configuration is TOML, which is UTF-8 text: save it as such, or check that this is the right file");
    source.error(problem.at(offset..offset))
}
