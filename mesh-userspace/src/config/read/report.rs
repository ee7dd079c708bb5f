//! Where problems are gathered while the tree is walked.

use crate::config::Problem;

/// More problems than this are not gathered: a file with so many is no configuration.
const MOST: usize = 100;

/// The problems found so far, and the lines of the text for messages that name one.
pub(super) struct Report {
    line_ends: Vec<usize>,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(text: &str) -> Self {
        let line_ends = text.match_indices('\n').map(|(offset, _)| offset).collect();
        Self { line_ends, problems: Vec::new() }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.len() < MOST {
            self.problems.push(problem);
        }
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|&end| end < offset).saturating_add(1)
    }

    /// `value`, unless there was a problem.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        value.filter(|_| self.problems.is_empty()).ok_or(self.problems)
    }
}
