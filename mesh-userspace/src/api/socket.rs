//! The API's unix socket.
//!
//! Invariant: at most one agent owns a path. A lock on the file beside it, held for the agent's life and freed
//! by the kernel whatever the agent dies of, says who; the socket appears at its path with its final mode.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::UnixListener;

/// Everybody may look for the socket.
const DIRECTORY_MODE: u32 = 0o755;

/// Owner and group may talk to the agent: to connect to a socket takes write permission (unix(7)).
const SOCKET_MODE: u32 = 0o660;

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Its owner lives.
    #[error("another agent is running: it answers at {}", .socket.display())]
    AnotherAgent {
        /// The path of the socket.
        socket: PathBuf,
    },
    /// Something else is there, which is not ours to remove.
    #[error("{} exists and is not a socket", .path.display())]
    NotASocket {
        /// The path of the thing.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A listening socket that is removed when dropped.
#[derive(Debug)]
pub struct ApiSocket {
    listener: UnixListener,
    owned: Owned,
}

/// The path, and the lock that makes it ours.
#[derive(Debug)]
pub(super) struct Owned {
    path: PathBuf,
    _lock: File,
}

impl ApiSocket {
    /// Listens at `path`: makes its directory, replaces the socket of an agent that is dead. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// When another agent owns the path, when something else is there, or when the system refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        create_directory(path)?;
        let lock = lock(path)?;
        refuse_living(path)?;
        let listener = listen(path)?;
        Ok(Self { listener, owned: Owned { path: path.to_owned(), _lock: lock } })
    }

    pub(super) fn into_parts(self) -> (UnixListener, Owned) {
        (self.listener, self.owned)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Only tidiness: the next agent replaces what is left behind.
        let _ = fs::remove_file(&self.path);
    }
}

fn create_directory(socket: &Path) -> Result<(), SocketError> {
    let Some(directory) = socket.parent().filter(|d| !d.as_os_str().is_empty()) else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(io_error("create directory", directory))
}

fn lock(socket: &Path) -> Result<File, SocketError> {
    let path = beside(socket, "lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::AnotherAgent { socket: socket.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

/// The lock is enough between agents; this protects whatever else listens there, and an agent whose lock file
/// was removed.
fn refuse_living(path: &Path) -> Result<(), SocketError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::AnotherAgent { socket: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(source) => Err(io_error("find out who listens at", path)(source)),
    }
}

/// Binds beside the path and renames, so that the path never names a socket of another mode, nor none.
fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let fresh = beside(path, "new");
    // Left behind by an agent that died right here; the lock says that nobody else is at it.
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(io_error("listen at", &fresh))?;
    fs::set_permissions(&fresh, Permissions::from_mode(SOCKET_MODE))
        .map_err(io_error("set the mode of", &fresh))?;
    fs::rename(&fresh, path).map_err(io_error("move the new socket to", path))?;
    Ok(listener)
}

fn beside(socket: &Path, suffix: &str) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { action, path, source }
}
