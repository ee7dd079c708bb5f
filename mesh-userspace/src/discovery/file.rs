//! A file with a list, watched; read again from time to time, too.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::RecommendedWatcher;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::error::Followed;
use super::list::{self, Wrong};
use super::voice::Voice;
use super::{Snapshot, SourceError};
use crate::config::FileSource;
use crate::watching;

/// The file is read at least so often.
const SILENCE: Duration = Duration::from_secs(30);

/// From a change until the file is read: whoever does not replace it at once is still writing.
const SETTLE: Duration = Duration::from_millis(50);

/// Larger files are no lists: bytes.
const MOST_BYTES: u64 = 32 << 20;

/// Says what is in the file, and again when it changes.
pub(super) async fn follow(source: &FileSource, voice: &mut Voice) -> Followed {
    loop {
        let changed = Arc::new(Notify::new());
        // Made anew with every silence: the directory itself may have been replaced.
        let _watcher = watch(&source.path, &changed)?;
        read_while_changing(&source.path, &changed, voice).await;
    }
}

/// A file that is wrong is watched on: it will be mended.
async fn read_while_changing(path: &Path, changed: &Notify, voice: &mut Voice) {
    loop {
        let file = path.to_owned();
        let lost = |error| Err(unreadable(path, io::Error::other(error)));
        match spawn_blocking(move || read(&file)).await.unwrap_or_else(lost) {
            Ok(snapshot) => voice.say(snapshot).await,
            Err(error) => voice.fail(&error, SILENCE),
        }
        if timeout(SILENCE, changed.notified()).await.is_err() {
            return;
        }
        sleep(SETTLE).await;
    }
}

fn watch(path: &Path, changed: &Arc<Notify>) -> Result<RecommendedWatcher, SourceError> {
    let directory = path.parent().unwrap_or(path);
    let unwatchable = |error| SourceError::Unwatchable { directory: directory.display().to_string(), error };
    watching::watch(directory, changed).map_err(unwatchable)
}

fn read(path: &Path) -> Result<Snapshot, SourceError> {
    let text = read_text(path).map_err(|error| unreadable(path, error))?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let list = if is_json { list::json(&text) } else { list::toml(&text) };
    list.map_err(|Wrong { line, column, message }| SourceError::Content {
        file: path.display().to_string(),
        line,
        column,
        message,
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MOST_BYTES) {
        Ok(text)
    } else {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

fn unreadable(path: &Path, error: io::Error) -> SourceError {
    SourceError::Unreadable { file: path.display().to_string(), error }
}
