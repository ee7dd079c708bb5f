//! The files of the configuration, watched if that is wanted.

use crate::{
    config::{Config, Source},
    watching,
};
use notify::RecommendedWatcher;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// The files are looked at least so often.
const SILENCE: Duration = Duration::from_secs(30);

/// From a change until the files are read: whoever does not replace one at once is still writing.
const SETTLE: Duration = Duration::from_millis(50);

/// The files of the configuration.
pub(super) struct Watched {
    path: PathBuf,
    /// Told by the kernel of every change.
    changed: Arc<Notify>,
    /// Told when it is time to read the files.
    ripe: Arc<Notify>,
    _ripening: Option<AbortOnDropHandle<()>>,
    /// Empty unless they are to be watched.
    watchers: Vec<RecommendedWatcher>,
    is_wanted: bool,
    /// What of the files was last acted on.
    seen: u64,
}

impl Watched {
    /// Watches the files of a configuration that was read from a source, if it says so.
    pub(super) fn new(path: PathBuf, config: &Config, source: &Source) -> Self {
        let (changed, ripe) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let ripening =
            config.agent.watch_config.then(|| tokio::spawn(ripen(Arc::clone(&changed), Arc::clone(&ripe))));
        let mut watched = Self {
            path,
            changed,
            ripe,
            _ripening: ripening.map(AbortOnDropHandle::new),
            watchers: Vec::new(),
            is_wanted: config.agent.watch_config,
            seen: fingerprint(source),
        };
        watched.follow(config);
        watched
    }

    /// Where the configuration is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Watches the directories that a configuration has its files in now.
    pub(super) fn follow(&mut self, config: &Config) {
        if !self.is_wanted {
            return;
        }
        let own = self.path.parent().unwrap_or(&self.path);
        // The path of a file here begins with none.
        let own = if own.as_os_str().is_empty() { Path::new(".") } else { own };
        let directories = [own.to_owned()].into_iter().chain(config.include.as_ref().map(|it| own.join(it)));
        self.watchers = directories
            .filter_map(|directory| {
                let watcher = watching::watch(&directory, &self.changed);
                let complain = |error: &notify::Error| {
                    warn!(directory = %directory.display(), %error, every = ?SILENCE, "cannot watch, looks from time to time");
                };
                watcher.inspect_err(complain).ok()
            })
            .collect();
    }

    /// Waits until the files may have changed; for ever, if that is not wanted.
    pub(super) async fn changed(&self) {
        self.ripe.notified().await;
    }

    /// Whether a source differs from the one before; it does so once.
    pub(super) fn is_new(&mut self, source: &Source) -> bool {
        let fingerprint = fingerprint(source);
        std::mem::replace(&mut self.seen, fingerprint) != fingerprint
    }
}

/// Tells `ripe` a moment after the last of some changes, and when none was told for long.
async fn ripen(changed: Arc<Notify>, ripe: Arc<Notify>) {
    loop {
        if timeout(SILENCE, changed.notified()).await.is_ok() {
            while timeout(SETTLE, changed.notified()).await.is_ok() {}
        }
        ripe.notify_one();
    }
}

/// Names and texts, but for an accident of 2^-64.
fn fingerprint(source: &Source) -> u64 {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    hasher.finish()
}
