//! What the agent tells whoever started and watches it, by `sd_notify(3)`: systemd, most of the time.
//!
//! Nothing is sent, and nothing fails, where the environment names no socket.

use sd_notify::{NotifyState, notify, watchdog_enabled};
use std::io;
use tracing::warn;

/// It does its work, and what that is.
///
/// # Errors
/// When the socket does not take it. Whoever waits for it would give up.
pub(crate) fn ready(status: &str) -> io::Result<()> {
    // A message is lines, each of which means something.
    let line = status.lines().next().unwrap_or_default();
    notify(&[NotifyState::Ready, NotifyState::Status(line)])
}

/// It takes over a new configuration; [`reloaded`] follows, whatever comes of it.
pub(crate) fn reloading() {
    let tell = || notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]);
    complain(tell());
}

/// The configuration in force is in force, and what came of the reload.
pub(crate) fn reloaded(status: &str) {
    complain(ready(status));
}

/// It is about to end, on purpose.
pub(crate) fn stopping() {
    complain(notify(&[NotifyState::Stopping]));
}

/// Whether somebody restarts it when it has not said for a while that it is [alive].
pub(crate) fn is_watched() -> bool {
    watchdog_enabled().is_some()
}

/// Its loop goes round.
pub(crate) fn alive() {
    complain(notify(&[NotifyState::Watchdog]));
}

fn complain(told: io::Result<()>) {
    if let Err(error) = told {
        warn!(%error, "could not tell systemd");
    }
}
