//! Removing a topology by its name alone, whoever made it: processes, namespaces, the bpffs mount, files.
//!
//! Invariant: only what carries the topology's name is touched, and clearing twice, or at the same time from
//! two processes, is harmless.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{name, namespace};

/// The environment variable that marks processes as a topology's own.
pub(crate) const MARK: &str = "MESHLB_TOPOLOGY";

/// The bpffs mount point within a topology's directory.
pub(crate) const BPFFS: &str = "bpf";

/// Removes everything that carries the topology's name. What cannot be removed is reported on stderr: this
/// runs while unwinding, where there is nobody to return an error to.
pub(crate) fn clear(topology: &str) {
    end_processes(topology);
    for namespace in entries(Path::new(namespace::DIRECTORY)) {
        if name::owner(&namespace).is_some_and(|(_, owner)| owner == topology) {
            remove_namespace(&Path::new(namespace::DIRECTORY).join(namespace));
        }
    }
    let directory = name::directory(topology);
    unmount(&directory.join(BPFFS));
    report(fs::remove_dir_all(&directory), &directory.display());
}

/// Removes the topologies of processes that were killed before they could clean up.
pub(crate) fn sweep() {
    clear_all(|pid| !Path::new("/proc").join(pid.to_string()).exists());
}

/// Removes the topologies of a dead process that had our number, before this one makes any.
pub(crate) fn sweep_namesake() {
    clear_all(|pid| pid == std::process::id());
}

fn clear_all(of: impl Fn(u32) -> bool) {
    let mut names = entries(Path::new(namespace::DIRECTORY));
    names.extend(entries(&std::env::temp_dir()));
    let doomed = names.iter().filter_map(|name| name::owner(name)).filter(|(pid, _)| of(*pid));
    doomed.map(|(_, topology)| topology).collect::<BTreeSet<_>>().into_iter().for_each(clear);
}

fn end_processes(topology: &str) {
    let mark = format!("{MARK}={topology}");
    for pid in entries(Path::new("/proc")).iter().filter_map(|entry| entry.parse::<i32>().ok()) {
        if Pid::from_raw(pid) != Pid::this() && carries(pid, mark.as_bytes()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn carries(pid: i32, mark: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark)
}

fn remove_namespace(path: &Path) {
    unmount(path);
    report(fs::remove_file(path), &path.display());
}

fn unmount(path: &Path) {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not a mount point (any more), or not there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => report(Err(error.into()), &path.display()),
    }
}

fn report(result: io::Result<()>, what: &dyn Display) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("mesh-tests could not remove {what}: {error}");
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
