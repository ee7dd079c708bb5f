//! Removing a topology by its name alone, whoever made it: processes, namespaces, the bpffs mount, files.
//!
//! Invariant: only what carries the topology's name, or lives in its namespaces, is touched, and clearing twice, or at
//! the same time from two processes, is harmless.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

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
    let namespaces = namespaces(topology);
    end_processes(topology, &namespaces);
    namespaces.iter().for_each(|namespace| remove_namespace(namespace));
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

fn namespaces(topology: &str) -> Vec<PathBuf> {
    let names = entries(Path::new(namespace::DIRECTORY)).into_iter();
    let ours = names.filter(|name| name::owner(name).is_some_and(|(_, owner)| owner == topology));
    ours.map(|name| Path::new(namespace::DIRECTORY).join(name)).collect()
}

/// Ends who carries the mark, and who lives in a namespace of the topology: some programs wipe their environment, and
/// what they start is no child of ours.
fn end_processes(topology: &str, namespaces: &[PathBuf]) {
    let mark = format!("{MARK}={topology}");
    let homes: Vec<FileId> = namespaces.iter().filter_map(file_id).collect();
    for pid in entries(Path::new("/proc")).iter().filter_map(|entry| entry.parse::<i32>().ok()) {
        let lives_there = || file_id(format!("/proc/{pid}/ns/net")).is_some_and(|id| homes.contains(&id));
        if Pid::from_raw(pid) != Pid::this() && (carries(pid, mark.as_bytes()) || lives_there()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Device and inode: what makes two paths the same file.
type FileId = (u64, u64);

fn file_id(path: impl AsRef<Path>) -> Option<FileId> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
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
