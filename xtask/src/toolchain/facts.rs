//! Looking at this machine; changes nothing.

use std::{path::Path, process::Command};

use super::{
    DISTRIBUTION_RUSTC, TARGET,
    choice::{Distribution, Facts},
    linker_directory, llvm_prefix,
};
use crate::{
    process::{find_program, is_root, output, succeeds},
    workspace::Workspace,
};

/// All facts at once.
pub(crate) fn probe(workspace: &Workspace) -> Facts {
    Facts {
        nightly_with_source: nightly_with_source(),
        linker_on_path: find_program("bpf-linker").is_some(),
        apt: find_program("apt-get").is_some(),
        root: is_root(),
        distribution: distribution(workspace),
    }
}

fn nightly_with_source() -> bool {
    let sysroot = output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]));
    let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
    sysroot.is_ok_and(|sysroot| Path::new(sysroot.trim()).join(core).exists())
}

/// The distribution's compiler, if it is complete but for the linker.
fn distribution(workspace: &Workspace) -> Option<Distribution> {
    let version = output(Command::new(DISTRIBUTION_RUSTC).arg("-vV")).ok()?;
    let llvm = llvm_major(&version)?;
    let complete = has_core() && Path::new("/usr/bin/clippy-driver").exists();
    complete.then(|| Distribution {
        llvm,
        llvm_development: llvm_prefix(llvm).join("bin/llvm-config").exists(),
        linker: succeeds(
            Command::new(linker_directory(workspace, llvm).join("bin/bpf-linker")).arg("--version"),
        ),
    })
}

fn has_core() -> bool {
    let print = ["--print", "target-libdir", "--target", TARGET];
    let directory = output(Command::new(DISTRIBUTION_RUSTC).args(print)).unwrap_or_default();
    let Ok(libraries) = Path::new(directory.trim()).read_dir() else { return false };
    libraries.flatten().any(|file| is_core(&file.file_name().to_string_lossy()))
}

fn is_core(name: &str) -> bool {
    name.starts_with("libcore-") && name.ends_with(".rlib")
}

/// The major version of LLVM that `rustc -vV` reports.
fn llvm_major(verbose_version: &str) -> Option<u32> {
    let version = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUSTC: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn the_llvm_version_is_read_from_rustc() {
        assert_eq!(llvm_major(RUSTC), Some(22));
        assert_eq!(llvm_major("LLVM version: 9"), Some(9));
    }

    #[test]
    fn a_rustc_without_llvm_has_no_version_of_it() {
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0\n"), None);
        assert_eq!(llvm_major("LLVM version: unknown"), None);
        assert_eq!(llvm_major(""), None);
    }

    #[test]
    fn the_core_library_is_told_from_its_neighbours() {
        assert!(is_core("libcore-8056e5e5b270ef4d.rlib"));
        assert!(!is_core("libcore-8056e5e5b270ef4d.rmeta"));
        assert!(!is_core("liballoc-216f9b299ea3c956.rlib"));
    }
}
