//! The topologies that are alive in this process, so that a signal can remove them all.
//!
//! Invariant: a topology is registered before it owns anything, and leaves the registry when it owns nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::{cleanup, enter, name, preflight};

static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<String>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to use a topology's name: dropping it removes everything that carries the name.
#[derive(Debug)]
pub(crate) struct Lease(String);

impl Lease {
    /// Registers a new name, after removing what dead processes left. The first call of a process also checks
    /// the machine and starts to listen for signals.
    pub(crate) fn take() -> Result<Self> {
        static READY: OnceLock<Result<(), String>> = OnceLock::new();
        let ready = READY.get_or_init(|| prepare().map_err(|error| format!("{error:#}")));
        ready.clone().map_err(|error| anyhow!(error))?;
        cleanup::sweep();
        let name = name::next();
        live().insert(name.clone());
        Ok(Self(name))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        cleanup::clear(&self.0);
        live().remove(&self.0);
    }
}

fn prepare() -> Result<()> {
    preflight::check()?;
    cleanup::sweep_namesake();
    watch_signals()?;
    Ok(())
}

/// Catches the signals before it returns; a thread then waits for the first one.
fn watch_signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    thread::Builder::new().name("signals".into()).spawn(move || {
        let cause = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Signal::SIGINT,
                _ = terminate.recv() => Signal::SIGTERM,
            }
        });
        live().iter().for_each(|topology| cleanup::clear(topology));
        enter::die_by(cause)
    })?;
    Ok(())
}
