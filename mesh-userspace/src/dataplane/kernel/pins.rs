//! Where the maps and links are pinned, and whether what is pinned there is ours.

use super::syscalls::detach_link;
use aya::programs::links::{FdLink, PinnedLink};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};
use tracing::debug;

/// Where the kernel's documentation wants the BPF file system.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No BPF file system there.
    #[error("{path} is not on a BPF file system; mount one: mount -t bpf bpf {path}")]
    NotBpf {
        /// The directory.
        path: PathBuf,
    },
    /// The BPF file system could not be mounted.
    #[error("could not mount the BPF file system on {BPFFS}: {source}; run as root")]
    Mount {
        /// The reason.
        source: io::Error,
    },
    /// The directory, or something in it, cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The directory of pins.
#[derive(Clone, Debug)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// Mounts the BPF file system in its usual place, if a directory below it is wanted and nobody has. Takes
    /// `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// It cannot be mounted.
    pub fn mount_below(directory: &Path) -> Result<(), PinError> {
        if directory.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|error| PinError::Mount { source: error.into() })?;
        }
        Ok(())
    }

    /// The pins of a directory, which is made if need be.
    ///
    /// # Errors
    ///
    /// The directory is not on a BPF file system, or cannot be made.
    pub fn open(directory: &Path) -> Result<Self, PinError> {
        let pins = Self { directory: directory.to_owned() };
        let links = pins.links();
        let parent = directory.ancestors().find(|path| path.exists());
        if !parent.is_some_and(is_bpffs) {
            return Err(PinError::NotBpf { path: directory.to_owned() });
        }
        fs::create_dir_all(&links).map_err(|source| PinError::Io { path: links, source })?;
        Ok(pins)
    }

    /// The pins of a directory if there are any.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn existing(directory: &Path) -> Result<Option<Self>, PinError> {
        let there =
            directory.try_exists().map_err(|source| PinError::Io { path: directory.to_owned(), source })?;
        Ok(there.then(|| Self { directory: directory.to_owned() }))
    }

    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn links(&self) -> PathBuf {
        self.directory.join("links")
    }

    /// Names in the directory of links.
    pub(super) fn link_names(&self) -> Result<Vec<String>, PinError> {
        names(&self.links())
    }

    /// Ids of the programs behind the links. One that cannot be read is left out.
    #[must_use]
    pub fn linked_programs(&self) -> BTreeSet<u32> {
        let program = |name: &String| {
            let link = FdLink::from(PinnedLink::from_pin(self.links().join(name)).ok()?);
            Some(link.info().ok()?.program_id())
        };
        self.link_names().unwrap_or_default().iter().filter_map(program).collect()
    }

    /// Removes all links, which detaches the programs, then all maps, then the directory.
    ///
    /// # Errors
    ///
    /// Something cannot be removed.
    pub fn remove(&self) -> Result<(), PinError> {
        for name in self.link_names()? {
            self.remove_link(&self.links().join(name))?;
        }
        remove_directory(&self.links())?;
        remove_directory(&self.directory)
    }

    /// Detaches the program behind a link and removes its pin; nothing happens if there is none.
    pub(super) fn remove_link(&self, pin: &Path) -> Result<(), PinError> {
        if !pin.exists() {
            return Ok(());
        }
        if let Err(error) = detach_link(pin) {
            // Its interface may be gone, and the attachment with it.
            debug!(pin = %pin.display(), %error, "could not detach a link, removing its pin");
        }
        fs::remove_file(pin).map_err(|source| PinError::Io { path: pin.to_owned(), source })
    }

    /// Removes the maps, but no links.
    pub(super) fn remove_maps(&self) -> Result<(), PinError> {
        remove_files(&self.directory)
    }
}

/// A name as bpffs takes it: it reserves dots (kernel/bpf/inode.c, `bpf_lookup`).
pub(super) fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

/// The name behind an escaped one.
pub(super) fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// Whether a path is on a BPF file system.
pub(crate) fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|info| info.filesystem_type() == BPF_FS_MAGIC)
}

fn names(directory: &Path) -> Result<Vec<String>, PinError> {
    let failed = |source| PinError::Io { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

fn remove_files(directory: &Path) -> Result<(), PinError> {
    for name in names(directory)? {
        let path = directory.join(name);
        if !path.is_dir() {
            fs::remove_file(&path).map_err(|source| PinError::Io { path, source })?;
        }
    }
    Ok(())
}

fn remove_directory(directory: &Path) -> Result<(), PinError> {
    remove_files(directory)?;
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PinError::Io { path: directory.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_come_back_without_dots() {
        for name in ["eth0", "eth0.100", "a%2eb.c"] {
            assert!(!escape(name).contains('.'));
            assert_eq!(unescape(&escape(name)), name);
        }
    }

    #[test]
    fn a_directory_elsewhere_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = Pins::open(&directory.path().join("meshlb")).unwrap_err();
        assert!(matches!(error, PinError::NotBpf { .. }), "{error}");
    }
}
