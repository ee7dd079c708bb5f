//! Processes and threads that live in another network namespace, and dying by a signal: the harness's only
//! unsafe code.
//!
//! Invariant: between fork and exec only async-signal-safe calls are made, on values made before the fork.
#![expect(unsafe_code, reason = "pre_exec hooks and signal dispositions are unsafe to set in Rust")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use nix::unistd::{Pid, getppid};

/// Moves the calling thread, and no other, into the network namespace.
pub(crate) fn enter(namespace: impl AsFd) -> nix::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
}

/// Makes `command` start inside the network namespace and die with the thread that spawned it. Unlike
/// `ip netns exec`, the mounts stay as they are, so that `/sys/fs/bpf` remains visible.
pub(crate) fn enter_on_exec(command: &mut Command, namespace: Arc<File>) {
    let parent = Pid::this();
    // SAFETY: setns, prctl and getppid are plain system calls: they take no lock and allocate nothing, which
    // is all that may be done in a forked child of a process with several threads.
    unsafe { command.pre_exec(move || prepare(&namespace, parent)) };
}

fn prepare(namespace: &File, parent: Pid) -> io::Result<()> {
    enter(namespace)?;
    set_pdeathsig(Signal::SIGKILL)?;
    // A parent that died before the line above sends no signal any more.
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// Ends this process by the signal's default action, so that whoever waits for it sees the true cause.
pub(crate) fn die_by(cause: Signal) -> ! {
    // SAFETY: the default disposition runs no code of this program.
    let _ = unsafe { signal(cause, SigHandler::SigDfl) };
    let _ = raise(cause);
    std::process::exit(128 + cause as i32)
}
