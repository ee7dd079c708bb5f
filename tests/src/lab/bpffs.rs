//! A BPF file system of one's own, so that pins of labs do not meet.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::registry::Lease;
use crate::{cleanup, name};

/// A bpffs; it goes with the value, when the process is interrupted, and with the next lab when it was killed.
#[derive(Debug)]
pub(super) struct BpfFs(Lease);

impl BpfFs {
    pub(super) fn mount() -> Result<Self> {
        let bpffs = Self(Lease::take()?);
        let path = bpffs.path();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a bpffs")?;
        Ok(bpffs)
    }

    pub(super) fn path(&self) -> PathBuf {
        name::directory(self.0.name()).join(cleanup::BPFFS)
    }
}
