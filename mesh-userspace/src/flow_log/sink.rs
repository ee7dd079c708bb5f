//! Where the lines go.
//!
//! Invariant: a file holds whole lines only, whatever the disk refuses, and there are never more files than configured.

use crate::config::{FlowLog, FlowLogTo};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

/// Only the agent's user may read who connected.
const MODE: u32 = 0o600;

/// Where lines go.
#[derive(Debug)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Files.
    File(Files),
}

/// A file, and those that it was before.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    /// No file becomes longer, unless by one write. Bytes.
    rotate_at: u64,
    /// Old files.
    keep: u32,
    /// The file, and the length up to which it is known to be whole lines.
    open: Option<(File, u64)>,
}

impl From<&FlowLog> for Sink {
    fn from(config: &FlowLog) -> Self {
        match &config.to {
            FlowLogTo::Stdout => Self::Stdout,
            FlowLogTo::File(path) => {
                let FlowLog { rotate_at, keep, .. } = *config;
                Self::File(Files { path: path.clone(), rotate_at, keep, open: None })
            }
        }
    }
}

impl Sink {
    /// Writes all of it, or fails.
    ///
    /// # Errors
    ///
    /// The disk is full, a directory is not writable, or nobody reads.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            // Past the lock, which the command line holds as long as it runs.
            Self::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(lines),
            Self::File(files) => files.write(lines),
        }
    }

    /// Opens the file of this name again before the next line.
    pub fn reopen(&mut self) {
        if let Self::File(files) = self {
            files.open = None;
        }
    }
}

impl Files {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let added = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let mut length = self.length()?;
        if length > 0 && length.saturating_add(added) > self.rotate_at {
            self.rotate()?;
            length = self.length()?;
        }
        let Some((file, whole)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let written = file.write_all(lines);
        if written.is_ok() {
            *whole = length.saturating_add(added);
        } else if file.set_len(length).is_err() {
            // Not a file of a disk. Else the part that was written is gone again.
            self.open = None;
        }
        written
    }

    /// The length of the file, which is open from then on.
    fn length(&mut self) -> io::Result<u64> {
        if let Some((_, length)) = &self.open {
            return Ok(*length);
        }
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(MODE).open(&self.path)?;
        let metadata = file.metadata()?;
        let mut length = metadata.len();
        if metadata.is_file() && length > 0 && !ends_with_newline(&self.path, length)? {
            // A line that a crash of the machine has cut off.
            file.write_all(b"\n")?;
            length += 1;
        }
        self.open = Some((file, length));
        Ok(length)
    }

    /// Makes the file the first of the old ones, of which the last goes.
    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            if let Some((file, length)) = &mut self.open {
                file.set_len(0)?;
                *length = 0;
            }
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.old(number), self.old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.old(1))?;
        self.open = None;
        Ok(())
    }

    /// The path of an old file.
    fn old(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

fn ends_with_newline(path: &Path, length: u64) -> io::Result<bool> {
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn files(directory: &TempDir, rotate_at: u64, keep: u32) -> Sink {
        let to = FlowLogTo::File(directory.path().join("flows.jsonl"));
        Sink::from(&FlowLog { to, rotate_at, keep })
    }

    fn read(directory: &TempDir, name: &str) -> String {
        fs::read_to_string(directory.path().join(name)).unwrap()
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let directory = TempDir::new().unwrap();
        let mut sink = files(&directory, 10, 2);
        for number in 0..8 {
            sink.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        assert_eq!(
            ["flows.jsonl.2", "flows.jsonl.1", "flows.jsonl"].map(|name| read(&directory, name)),
            ["line 5\n", "line 6\n", "line 7\n"]
        );
    }

    #[test]
    fn without_old_files_the_file_begins_anew() {
        let directory = TempDir::new().unwrap();
        let mut sink = files(&directory, 20, 0);
        for number in 0..5 {
            sink.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(read(&directory, "flows.jsonl"), "line 4\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_left_alone_once_it_is_opened_again() {
        let directory = TempDir::new().unwrap();
        let mut sink = files(&directory, 1000, 1);
        let moved = |to: &str| fs::rename(directory.path().join("flows.jsonl"), directory.path().join(to));
        sink.write(b"a\n").unwrap();
        moved("old").unwrap();
        sink.write(b"b\n").unwrap();
        sink.reopen();
        sink.write(b"c\n").unwrap();
        assert_eq!(
            (read(&directory, "old"), read(&directory, "flows.jsonl")),
            ("a\nb\n".into(), "c\n".into())
        );
    }

    #[test]
    fn a_line_that_was_cut_off_takes_no_other_along() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("flows.jsonl"), "a\n{\"ev").unwrap();
        files(&directory, 1000, 1).write(b"b\n").unwrap();
        assert_eq!(read(&directory, "flows.jsonl"), "a\n{\"ev\nb\n");
    }

    #[test]
    fn who_connected_is_not_for_everybody_to_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = TempDir::new().unwrap();
        files(&directory, 1000, 1).write(b"a\n").unwrap();
        let mode = fs::metadata(directory.path().join("flows.jsonl")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }

    #[test]
    fn a_full_disk_and_a_missing_directory_are_errors() {
        let full = FlowLog { to: FlowLogTo::File("/dev/full".into()), rotate_at: 1000, keep: 1 };
        assert_eq!(Sink::from(&full).write(b"a\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        let directory = TempDir::new().unwrap();
        let missing = FlowLogTo::File(directory.path().join("missing/flows.jsonl"));
        let missing = FlowLog { to: missing, rotate_at: 1000, keep: 1 };
        assert_eq!(Sink::from(&missing).write(b"a\n").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
