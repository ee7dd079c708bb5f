//! A BPF file system of one's own, so that pins of labs do not meet.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A bpffs, unmounted with the value.
#[derive(Debug)]
pub(super) struct BpfFs(TempDir);

impl BpfFs {
    pub(super) fn mount() -> Result<Self> {
        crate::preflight::check()?;
        let directory = tempfile::Builder::new().prefix("mlb-lab-").tempdir()?;
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a bpffs")?;
        Ok(Self(directory))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // The directory goes with its own guard.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
