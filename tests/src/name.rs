//! Names that say who owns what: `mlb-<pid>-<n>` is the n-th topology of process `pid`, and every namespace
//! and directory of it begins with that.
//!
//! Invariant: two living processes never make the same name, and the owner can be read off a name.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// The next unused topology name of this process.
pub(crate) fn next() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("mlb-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

/// The namespace of `host` in `topology`.
pub(crate) fn namespace(topology: &str, host: &str) -> String {
    format!("{topology}-{host}")
}

/// Where a topology keeps its files and mounts its bpffs.
pub(crate) fn directory(topology: &str) -> PathBuf {
    std::env::temp_dir().join(topology)
}

/// The process and the topology that a namespace or a directory belongs to, if it is one of ours.
pub(crate) fn owner(name: &str) -> Option<(u32, &str)> {
    let rest = name.strip_prefix("mlb-")?;
    let (pid, rest) = rest.split_once('-')?;
    let number = rest.split('-').next()?;
    number.parse::<u32>().ok()?;
    let length = "mlb-".len() + pid.len() + 1 + number.len();
    Some((pid.parse().ok()?, name.get(..length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_off_a_namespace_and_off_a_directory() {
        assert_eq!(owner("mlb-41-7-backend-12"), Some((41, "mlb-41-7")));
        assert_eq!(owner("mlb-41-7"), Some((41, "mlb-41-7")));
    }

    #[test]
    fn foreign_names_have_no_owner() {
        for name in ["mlb", "mlb-", "mlb-x-1-client", "mlb-41", "mlb-41-client", "lab-41-7", "mlb-41--1"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn names_differ_within_a_process() {
        assert_ne!(next(), next());
    }
}
