//! The files that make events survive the agent: JSON, one event a line.
//!
//! Invariant: together they are no longer than twice [`LONGEST`], and what was written to them is only added to.
//! A crash of the machine may take the last lines; a line that is not whole is left out.

use super::{Event, log::MOST};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const NAME: &str = "events.jsonl";

/// The file before.
const OLD: &str = "events.old.jsonl";

/// A file that is longer becomes the old one. Bytes.
const LONGEST: u64 = 4 << 20;

/// Only the agent's user may read what happened.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The files in a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    directory: PathBuf,
    longest: u64,
}

impl Journal {
    /// That in a directory, which need not exist yet.
    #[must_use]
    pub const fn within(directory: PathBuf) -> Self {
        Self { directory, longest: LONGEST }
    }

    #[cfg(test)]
    pub(super) fn no_longer_than(self, longest: u64) -> Self {
        Self { longest, ..self }
    }

    /// The last events that were written. What cannot be read or understood is left out: it is history.
    #[must_use]
    pub fn read(&self) -> Vec<Event> {
        let mut events: Vec<Event> =
            [OLD, NAME].iter().flat_map(|name| read(&self.directory.join(name))).collect();
        // Two agents, or somebody's editor, may have disturbed the order.
        events.sort_by_key(|event| event.sequence);
        events.dedup_by_key(|event| event.sequence);
        events.drain(..events.len().saturating_sub(MOST));
        events
    }

    /// Adds events.
    ///
    /// # Errors
    ///
    /// The disk is full, or the directory not writable.
    pub fn append(&self, events: &[Event]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.directory)?;
        let path = self.directory.join(NAME);
        let mut file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(&path)?;
        let length = file.metadata()?.len();
        if length > self.longest {
            fs::rename(&path, self.directory.join(OLD))?;
            file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(&path)?;
        } else if length > 0 && !ends_with_newline(&path)? {
            // A write that the disk cut off must not take the next line along.
            lines.insert(0, b'\n');
        }
        file.write_all(&lines)
    }
}

fn read(path: &Path) -> Vec<Event> {
    let text = fs::read(path).unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::open(path)?;
    let mut last = [0];
    file.read_exact_at(&mut last, file.metadata()?.len().saturating_sub(1))?;
    Ok(last == *b"\n")
}
