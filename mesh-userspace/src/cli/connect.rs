//! Which agent to talk to.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::config::Api;

/// The socket that was named, or the default one.
pub(super) fn socket(named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| Api::SOCKET.into())
}

/// Whether somebody listens at `socket`.
pub(super) fn is_alive(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}
