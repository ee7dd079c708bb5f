//! One named network namespace: running closures, commands and `ip` scripts inside it.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};

use crate::cleanup::MARK;
use crate::{enter, ip, name};

/// Where `ip netns` keeps the names.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// A handle; the namespace itself is removed by its topology.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    topology: Arc<str>,
    name: Arc<str>,
    file: Arc<File>,
}

impl Namespace {
    /// Makes the namespace of `host` and brings its `lo` up.
    pub(crate) fn create(topology: &str, host: &str) -> Result<Self> {
        let name = name::namespace(topology, host);
        ip::batch(None, &format!("netns add {name}\n"))?;
        let path = Path::new(DIRECTORY).join(&name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let made = Self { topology: topology.into(), name: name.into(), file: Arc::new(file) };
        made.ip("link set lo up\n")?;
        Ok(made)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where the topology keeps its files.
    pub(crate) fn directory(&self) -> PathBuf {
        name::directory(&self.topology)
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&*self.name)
    }

    /// Runs a closure on a new thread inside the namespace; its panic is the caller's.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let outcome = thread::scope(|scope| {
            let inside = || enter::enter(&*self.file).map(|()| work());
            thread::Builder::new().name(self.name.to_string()).spawn_scoped(scope, inside).map(|t| t.join())
        });
        match outcome.context("cannot start a thread")? {
            Ok(entered) => entered.with_context(|| format!("cannot enter the namespace {}", self.name)),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// A command that starts inside, dies with the spawning thread, and is marked as the topology's own.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        enter::enter_on_exec(&mut command, Arc::clone(&self.file));
        command.env(MARK, &*self.topology);
        command
    }

    /// Runs `ip` commands, one per line, stopping at the first that fails.
    pub(crate) fn ip(&self, script: &str) -> Result<()> {
        ip::batch(Some(&self.name), script)
    }

    /// Writes kernel settings given as paths under `/proc/sys`.
    pub(crate) fn sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| settings.iter().try_for_each(|(key, value)| write_sysctl(key, value)))?
    }

    /// Switches off what lets a veth pair hand over packets no wire would carry: missing checksums and
    /// segments longer than the MTU. A native XDP program drops or stalls on them.
    pub(crate) fn plain_frames(&self, interface: &str) -> Result<()> {
        let features = ["tx", "tso", "gso", "gro", "lro"].map(|feature| [feature, "off"]);
        let mut command = self.command("ethtool");
        command.args(["-K", interface]).args(features.as_flattened());
        ip::succeed(&mut command)
    }
}

fn write_sysctl(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}
