//! What is known of a source and from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Snapshot;

/// Reports by the name of the source.
pub type Reports<W = Snapshot> = BTreeMap<String, Report<W>>;

/// What is known of a source and from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report<W = Snapshot> {
    /// What it said last; `None`: it has never said anything.
    pub snapshot: Option<Arc<W>>,
    /// What of it is left out because it is no instance; `None`: nothing.
    pub left_out: Option<String>,
    /// When it last said so, or that nothing has changed.
    pub confirmed: Option<SystemTime>,
    /// Whether it has spoken since the agent began to follow it; otherwise its snapshot is one that was stored.
    pub has_spoken: bool,
    /// Why it says nothing at present; `None`: it does.
    pub error: Option<String>,
    /// How often it failed since the agent began to follow it.
    pub errors: u64,
    /// Why its snapshot could not be stored; `None`: it could, or there is none.
    pub unstored: Option<String>,
}

impl<W> Report<W> {
    /// How long ago the source last stood by its snapshot.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        Some(now.duration_since(self.confirmed?).unwrap_or_default())
    }

    /// Whether there is nothing to wait for when the agent starts: it has spoken, or failed where something is stored.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.has_spoken || (self.error.is_some() && self.snapshot.is_some())
    }

    /// Whether it has spoken or failed since the agent began to follow it.
    #[must_use]
    pub const fn has_answered(&self) -> bool {
        self.has_spoken || self.error.is_some()
    }

    /// `live`, `stale` if it says nothing at present, `silent` if it has never said anything.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match (&self.snapshot, &self.error) {
            (None, _) => "silent",
            (Some(_), None) if self.has_spoken => "live",
            (Some(_), _) => "stale",
        }
    }
}
