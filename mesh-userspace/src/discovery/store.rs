//! Snapshots on disk, for the next agent.
//!
//! Invariant: a file is replaced as a whole, so that whoever reads it finds one that was written to its end.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use thiserror::Error;

/// The layout of the files; those of another one are not read.
const VERSION: u32 = 1;

/// A directory of what sources said.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

/// A snapshot on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<W> {
    version: u32,
    source: String,
    /// Seconds since 1970.
    confirmed: u64,
    snapshot: W,
}

/// Why something could not be stored or read.
#[derive(Debug, Error)]
#[error("{file}: {error}")]
pub struct StoreError {
    file: String,
    error: io::Error,
}

impl Store {
    /// What is kept in a directory of a state directory.
    pub fn within(state_directory: &Path, name: &str) -> Self {
        Self(state_directory.join(name))
    }

    /// Keeps what a source said.
    pub fn keep<W: Serialize>(
        &self,
        source: &str,
        confirmed: SystemTime,
        snapshot: &W,
    ) -> Result<(), StoreError> {
        let since_1970 = confirmed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stored =
            Stored { version: VERSION, source: source.to_owned(), confirmed: since_1970.as_secs(), snapshot };
        let file = self.file(source);
        self.replace(&file, &stored).map_err(|error| failed(&file, error))
    }

    /// What a source said last, and when.
    pub fn recall<W: DeserializeOwned>(&self, source: &str) -> Result<Option<(W, SystemTime)>, StoreError> {
        let file = self.file(source);
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| failed(&file, error))?,
        };
        let stored: Stored<W> = serde_json::from_slice(&text).map_err(|error| failed(&file, error.into()))?;
        if (stored.version, stored.source.as_str()) != (VERSION, source) {
            let error = io::Error::other("it is of another version or source");
            return Err(failed(&file, error));
        }
        Ok(Some((stored.snapshot, SystemTime::UNIX_EPOCH + Duration::from_secs(stored.confirmed))))
    }

    /// Forgets what other sources than these said.
    pub fn keep_only<'a>(&self, sources: impl Iterator<Item = &'a String>) -> Result<(), StoreError> {
        let files: BTreeSet<PathBuf> = sources.map(|source| self.file(source)).collect();
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| failed(&self.0, error))?,
        };
        let found = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_ours = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "json");
        let mut superfluous = found.filter(|file| is_ours(file) && !files.contains(file));
        superfluous.try_for_each(|file| fs::remove_file(&file).map_err(|error| failed(&file, error)))
    }

    fn replace(&self, file: &Path, stored: &Stored<impl Serialize>) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let mut new = NamedTempFile::new_in(&self.0)?;
        new.write_all(&serde_json::to_vec(stored)?)?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        fs::File::open(&self.0)?.sync_all()
    }

    /// The names of sources are too long for names of files, and have all kinds of characters.
    fn file(&self, source: &str) -> PathBuf {
        let kind = source.split(' ').next().unwrap_or_default();
        self.0.join(format!("{kind}-{:016x}.json", digest(source)))
    }
}

fn failed(file: &Path, error: io::Error) -> StoreError {
    StoreError { file: file.display().to_string(), error }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv-21): the same in every version of the agent.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{Instance, Snapshot};

    fn snapshot(last: u8) -> Snapshot {
        [Instance { weight: Some(7), ..Instance::new([10, 0, 0, last].into(), Some(80)) }]
            .into_iter()
            .collect()
    }

    #[test]
    fn what_was_kept_is_recalled_with_its_age() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::within(&directory.path().join("not/yet"), "discovery");
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(store.recall::<Snapshot>("file /a").unwrap().is_none());
        store.keep("file /a", then, &snapshot(1)).unwrap();
        store.keep("file /b", then, &snapshot(2)).unwrap();
        store.keep("file /a", then, &snapshot(3)).unwrap();
        assert_eq!(store.recall::<Snapshot>("file /a").unwrap(), Some((snapshot(3), then)));
        assert_eq!(store.recall::<Snapshot>("file /b").unwrap(), Some((snapshot(2), then)));
        store.keep_only(["file /b".to_owned()].iter()).unwrap();
        assert!(store.recall::<Snapshot>("file /a").unwrap().is_none());
        assert!(store.recall::<Snapshot>("file /b").unwrap().is_some());
    }

    #[test]
    fn files_that_are_damaged_or_of_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::within(directory.path(), "discovery");
        store.keep("file /a", SystemTime::UNIX_EPOCH, &snapshot(1)).unwrap();
        let (ours, other) = (store.file("file /a"), store.file("file /b"));
        fs::copy(&ours, &other).unwrap();
        assert!(
            store
                .recall::<Snapshot>("file /b")
                .unwrap_err()
                .to_string()
                .contains("another version or source")
        );
        fs::write(&ours, "{\"version\":1,").unwrap();
        assert!(store.recall::<Snapshot>("file /a").unwrap_err().to_string().contains("EOF"));
        fs::write(&ours, fs::read_to_string(&other).unwrap().replace("\"version\":1", "\"version\":2"))
            .unwrap();
        assert!(store.recall::<Snapshot>("file /a").is_err());
    }

    #[test]
    fn digests_are_those_of_the_draft() {
        assert_eq!((digest(""), digest("foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
    }
}
