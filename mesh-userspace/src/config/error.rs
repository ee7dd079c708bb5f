//! What is wrong with a configuration, where, and what would be right.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::Source;
use super::render::render;
use super::source::SourceFile;

/// A place in a file, as editors count: both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Everything that is wrong with one configuration. `Display` shows it without colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Boxed, since whatever may fail would have to carry it.
    source: Box<Source>,
    problems: Vec<Problem>,
}

impl ConfigError {
    /// Orders the problems as the files do and gives each its line and column. What is missing at the end of a file is
    /// missed in its last line that is not empty.
    pub(super) fn new(source: Source, mut problems: Vec<Problem>) -> Self {
        for problem in &mut problems {
            problem.location = problem.span.as_ref().map(|span| source.locate(span.start));
        }
        problems.sort_by_key(|problem| {
            (problem.span.as_ref().map(|span| source.file(span.start).start), problem.location)
        });
        Self { source: Box::new(source), problems }
    }

    /// The file that a problem is in, as it was named.
    #[must_use]
    pub fn file_of(&self, problem: &Problem) -> &str {
        &self.source.file(problem.span.as_ref().map_or(0, |span| span.start)).name
    }

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The single problems, in the order of the files; at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The first problem with its place, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Some(first) = self.problems.first() else { return self.file().to_owned() };
        let more = match self.problems.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("{}{more}", self.line(first))
    }

    /// A problem with its place.
    fn line(&self, problem: &Problem) -> String {
        let place = problem.location().map_or_else(String::new, |location| format!(":{location}"));
        format!("{}{place}: {}", self.file_of(problem), problem.message())
    }

    /// The definitions of services that problems are in, by the service's name, each with its first problem: of two places
    /// that belong to a problem the later one is wrong; where something is too much, so is all that follows.
    pub(super) fn definitions(&self) -> BTreeMap<String, String> {
        let mut wrong = BTreeMap::new();
        for problem in &self.problems {
            let related = problem.related.as_ref().map(|related| related.span.start);
            let places = problem.span.iter().map(|span| span.start).chain(related);
            let Some(file) = places.max().map(|place| self.source.file(place)) else { continue };
            let is_wrong =
                |it: &&SourceFile| it.start == file.start || problem.is_limit && it.start > file.start;
            let names = self.source.others().iter().filter(is_wrong).filter_map(|it| it.defines.clone());
            for name in names {
                wrong.entry(name).or_insert_with(|| self.line(problem));
            }
        }
        wrong
    }

    /// The problems with the lines they are in, for people; `color` for terminals.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        render(&self.source, &self.problems, color)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) span: Option<Range<usize>>,
    pub(super) related: Option<Box<Related>>,
    location: Option<Location>,
    /// Whether there is too much of something, from this place on.
    is_limit: bool,
    message: String,
    advice: Option<String>,
}

/// A second place that belongs to a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Related {
    pub(super) span: Range<usize>,
    pub(super) label: &'static str,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { span: None, related: None, location: None, is_limit: false, message, advice: None }
    }

    /// Says what would be right.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Says where it is, in bytes of the text, or of the texts one after the other.
    pub(super) fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    /// Says that there is too much of something, from this place on.
    pub(super) const fn of_a_limit(mut self) -> Self {
        self.is_limit = true;
        self
    }

    /// The same in a file that begins at an offset.
    pub(super) fn moved(mut self, by: usize) -> Self {
        let shift = |span: Range<usize>| span.start.saturating_add(by)..span.end.saturating_add(by);
        self.span = self.span.map(shift);
        self
    }

    /// Shows a second place beside the first.
    pub(super) fn beside(mut self, span: Range<usize>, label: &'static str) -> Self {
        self.related = Some(Box::new(Related { span, label }));
        self
    }

    /// Fills in what the finder of the problem left open.
    pub(super) fn complete(mut self, span: &Range<usize>, advice: impl FnOnce() -> String) -> Self {
        self.span.get_or_insert_with(|| span.clone());
        self.advice.get_or_insert_with(advice);
        self
    }

    /// Where it is; `None` when the file could not be read at all.
    #[must_use]
    pub const fn location(&self) -> Option<Location> {
        self.location
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right.
    #[must_use]
    pub fn advice(&self) -> &str {
        self.advice.as_deref().unwrap_or_default()
    }
}
