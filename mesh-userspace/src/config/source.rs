//! The text of a configuration and its name, those of the files that it includes, and of services that are defined
//! elsewhere: what errors point into.
//!
//! Offsets count through all files, as if they stood one after the other with a byte between them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, Location, Problem, read};

/// The smallest configuration that is accepted.
pub(super) const SMALLEST: &str = "[agent]\ninterfaces = [\"eth0\"]";

/// Larger files are no configuration: bytes. A hundred thousand backends take 5 MiB.
const MOST_BYTES: u64 = 32 << 20;

/// A configuration's text under its name. Keep it beside the [`Config`] to point into the file later, when the host
/// turns out not to fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    main: SourceFile,
    /// What is included, in the order of the names; and what is defined beside it.
    others: Vec<SourceFile>,
}

/// A file, as it was named, and its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SourceFile {
    pub(super) name: String,
    pub(super) text: String,
    /// The offset of its first byte.
    pub(super) start: usize,
    /// The service that it defines, if it is no file.
    pub(super) defines: Option<String>,
}

impl SourceFile {
    /// Takes text, without the byte order mark that some editors put before it.
    fn new(name: String, mut text: String, start: usize) -> Self {
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        Self { name, text, start, defines: None }
    }

    /// The offset behind its last byte.
    const fn end(&self) -> usize {
        self.start.saturating_add(self.text.len())
    }

    /// A place in it, in bytes of its text; what lies behind its last line that is not empty is in that.
    pub(super) fn within(&self, span: &Range<usize>) -> Range<usize> {
        let last = self.text.trim_end_matches(['\r', '\n']).len();
        let place = |offset: usize| offset.saturating_sub(self.start).min(last);
        place(span.start)..place(span.end)
    }

    /// The line and column of a byte of the text.
    fn locate(&self, offset: usize) -> Location {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
        let line = before.matches('\n').count();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let from_one = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        Location { line: from_one(line), column: from_one(column) }
    }
}

impl Source {
    /// Takes text, without the byte order mark that some editors put before it. What it includes is not read.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { main: SourceFile::new(name.into(), text.into(), 0), others: Vec::new() }
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

    /// Reads a file, and those that it includes.
    ///
    /// # Errors
    /// A file or the directory of the included ones cannot be read, is not UTF-8, or together they are larger than
    /// 32 MiB.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut source = Self::read_one(path, MOST_BYTES)?;
        let include = read::include(&source.main.text);
        let Some((directory, span)) = include else { return Ok(source) };
        let directory = path.parent().unwrap_or(path).join(directory);
        let files = toml_files(&directory).map_err(|error| {
            let message = format!("the directory {} cannot be read: {error}", directory.display());
            let advice = "make it, even if it is empty, or leave `include` away";
            source.error(Problem::new(message).advise(advice).at(span))
        })?;
        for file in files {
            let start = source.last().end().saturating_add(1);
            let room = MOST_BYTES.saturating_sub(u64::try_from(start).unwrap_or(u64::MAX));
            let SourceFile { name, text, .. } = Self::read_one(&file, room)?.main;
            source.others.push(SourceFile { name, text, start, defines: None });
        }
        Ok(source)
    }

    /// The same with services that are defined elsewhere, by their names, under keys that begin with a prefix.
    pub(super) fn beside<'a>(
        &self,
        prefix: &str,
        definitions: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let mut source = self.clone();
        for (name, text) in definitions {
            let start = source.last().end().saturating_add(1);
            let file = SourceFile::new(format!("{prefix}{name}"), text.clone(), start);
            source.others.push(SourceFile { defines: Some(name.clone()), ..file });
        }
        source
    }

    fn read_one(path: &Path, most: u64) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match read_bytes(path, most) {
            Ok(bytes) => Self::from_bytes(name, bytes),
            Err(error) => Err(Self::new(name, "").error(unreadable(&error))),
        }
    }

    /// The file's name, as it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.main.name
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.main.text
    }

    /// Names and texts of the file and of those that it includes.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        [&self.main].into_iter().chain(&self.others).map(|file| (file.name.as_str(), file.text.as_str()))
    }

    /// The file that was named.
    pub(super) const fn main(&self) -> &SourceFile {
        &self.main
    }

    /// The files that it includes, in the order of their names, and what is defined beside them.
    pub(super) fn others(&self) -> &[SourceFile] {
        &self.others
    }

    fn last(&self) -> &SourceFile {
        self.others.last().unwrap_or(&self.main)
    }

    /// The file that an offset lies in.
    pub(super) fn file(&self, offset: usize) -> &SourceFile {
        let before = self.others.partition_point(|file| file.start <= offset);
        before.checked_sub(1).and_then(|last| self.others.get(last)).unwrap_or(&self.main)
    }

    /// Parses and validates the text.
    ///
    /// # Errors
    /// Says everything that is wrong with it, or the first thing when it is not TOML.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        read::config(self).map_err(|problems| ConfigError::new(self.clone(), problems))
    }

    /// Where `agent.interfaces` names `interface`; `None` when it does not.
    #[must_use]
    pub fn locate_interface(&self, interface: &str) -> Option<Location> {
        interface_span(self.text(), interface).map(|span| self.locate(span.start))
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
        let span = interface_span(self.text(), interface).unwrap_or_default();
        self.error(Problem::new(message).advise(advice).at(span))
    }

    /// The line and column of an offset, in the file that it lies in.
    pub(super) fn locate(&self, offset: usize) -> Location {
        let file = self.file(offset);
        file.locate(file.within(&(offset..offset)).start)
    }

    fn error(&self, problem: Problem) -> ConfigError {
        ConfigError::new(self.clone(), vec![problem])
    }
}

/// The files of a directory whose names end in `.toml` and begin with no dot, in the order of their names.
fn toml_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn interface_span(text: &str, interface: &str) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let interfaces = root.get_ref().get("agent")?.get_ref().get("interfaces")?.get_ref().as_array()?;
    let names_it = |entry: &&toml::Spanned<DeValue<'_>>| entry.get_ref().as_str() == Some(interface);
    interfaces.iter().find(names_it).map(toml::Spanned::span)
}

/// Reads at most one byte more than allowed, so that a device without an end ends too.
fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= most) {
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
        FileTooLarge => "a configuration has at most 32 MiB, with all that it includes".to_owned(),
        _ => "give the path of a TOML file".to_owned(),
    };
    Problem::new(format!("the configuration cannot be read: {error}")).advise(advice)
}

/// The text is kept as it is, with its byte order mark, so that offsets are the file's.
fn not_utf8(name: String, error: &FromUtf8Error) -> ConfigError {
    let offset = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let main = SourceFile { name, text, start: 0, defines: None };
    let source = Source { main, others: Vec::new() };
    let problem = Problem::new(format!("the file is not UTF-8 text: byte {offset} begins no character"))
        .advise("a configuration is TOML, which is UTF-8 text: save it as such, or check that this is the right file");
    source.error(problem.at(offset..offset))
}
