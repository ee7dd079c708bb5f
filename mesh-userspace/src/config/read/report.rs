//! Where problems are gathered while the tree is walked.

use crate::config::Problem;
use crate::config::source::SourceFile;

/// More problems than this are not gathered: a file with so many is no configuration.
const MOST: usize = 100;

/// The problems found so far, and the lines of the texts for messages that name one.
pub(super) struct Report {
    /// In the order of their offsets; at least one.
    files: Vec<Lines>,
    problems: Vec<Problem>,
}

/// Where the lines of a file end.
struct Lines {
    name: String,
    start: usize,
    ends: Vec<usize>,
}

impl Report {
    pub(super) fn new<'a>(files: impl Iterator<Item = &'a SourceFile>) -> Self {
        let lines = |SourceFile { name, text, start, .. }: &SourceFile| {
            let ends = text.match_indices('\n').map(|(offset, _)| start.saturating_add(offset)).collect();
            Lines { name: name.clone(), start: *start, ends }
        };
        Self { files: files.map(lines).collect(), problems: Vec::new() }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.len() < MOST {
            self.problems.push(problem);
        }
    }

    /// The line of a byte, from 1, as a message about another byte says it: with the file, if that is another one.
    pub(super) fn line(&self, offset: usize, seen_from: usize) -> String {
        let Some(file) = self.file(offset) else { return String::new() };
        let line = file.ends.partition_point(|&end| end < offset).saturating_add(1);
        let is_beside = self.file(seen_from).is_some_and(|own| own.start == file.start);
        if is_beside { line.to_string() } else { format!("{line} of {}", file.name) }
    }

    fn file(&self, offset: usize) -> Option<&Lines> {
        self.files.iter().rev().find(|file| file.start <= offset)
    }

    /// `value`, unless there was a problem.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        value.filter(|_| self.problems.is_empty()).ok_or(self.problems)
    }
}
