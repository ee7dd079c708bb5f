//! Where things are, and cargo as the developer called it.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// Everything that is compiled for the host; the kernel's crate is not.
pub(crate) const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "mesh-ebpf"];

/// How the host's code is compiled.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Debug,
    Release,
}

impl Profile {
    pub(crate) fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Debug }
    }

    /// Cargo's arguments for it.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Debug => &[],
            Self::Release => &["--release"],
        }
    }

    /// The directory below the target directory that cargo builds in.
    fn directory(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// The directories of this checkout.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    tools: PathBuf,
}

impl Workspace {
    /// From what `cargo run` says at run time: checkouts that share a target directory share this program.
    pub(crate) fn discover() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package).parent().context("xtask has no directory above it")?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let target = std::path::absolute(&target).with_context(|| format!("{}", target.display()))?;
        Ok(Self { root: root.to_owned(), tools: target.join("tools"), target })
    }

    /// The same sources in another directory, built in another one with the same tools.
    pub(crate) fn elsewhere(&self, root: PathBuf, target: PathBuf) -> Self {
        Self { root, target, tools: self.tools.clone() }
    }

    /// Where the sources are.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where tools are that are built or unpacked once.
    pub(crate) fn tools(&self) -> &Path {
        &self.tools
    }

    /// Flags of rustc that take this machine's directories out of what it makes. Where several match, the last one counts.
    pub(crate) fn remaps(&self) -> Vec<String> {
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let of = |variable: &str, usual: &str| {
            env::var_os(variable).map_or_else(|| home.join(usual), PathBuf::from)
        };
        let directories = [
            (of("RUSTUP_HOME", ".rustup"), "/rustup"),
            (of("CARGO_HOME", ".cargo"), "/cargo"),
            (self.root.clone(), "/meshlb"),
            (self.target.clone(), "/meshlb/target"),
        ];
        directories.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
    }

    /// Where cargo builds; absolute.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where a program of the host is, once built.
    pub(crate) fn program(&self, profile: Profile, name: &str) -> PathBuf {
        self.target.join(profile.directory()).join(name)
    }

    /// The directory of the finished kernel programs, which the host's build scripts read.
    pub(crate) fn objects(&self) -> PathBuf {
        self.target.join("bpf")
    }
}

/// The cargo that runs this, in the environment in which the developer called it: build scripts that watch
/// variables would otherwise compile their crates again.
pub(crate) fn cargo() -> Command {
    outside_cargo(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program in the environment in which the developer called cargo.
pub(crate) fn outside_cargo(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    withhold(&mut command, is_about_this_package);
    command
}

/// Takes variables out of what a command inherits.
pub(crate) fn withhold(command: &mut Command, unwanted: fn(&str) -> bool) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(unwanted)) {
        command.env_remove(name);
    }
}

fn is_about_this_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// Copies a file if its contents differ, so that the time of an unchanged one stays and nothing is rebuilt.
/// A reader sees the old or the new contents, never a part. Returns whether it copied.
pub(crate) fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("{}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    let beside = to.with_extension("new");
    fs::write(&beside, new).with_context(|| format!("{}", beside.display()))?;
    fs::rename(&beside, to).with_context(|| format!("{}", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_file_is_not_written_again() {
        let directory = env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (from, to) = (directory.join("from"), directory.join("to"));
        fs::write(&from, "one").unwrap();
        let copied = [&from, &from].map(|from| copy_if_changed(from, &to).unwrap());
        fs::write(&from, "two").unwrap();
        let changed = copy_if_changed(&from, &to).unwrap();
        let contents = fs::read_to_string(&to).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!((copied, changed, contents.as_str()), ([true, false], true, "two"));
    }

    #[test]
    fn only_variables_about_this_package_are_withheld() {
        assert!(is_about_this_package("CARGO_PKG_NAME"));
        assert!(is_about_this_package("CARGO_MANIFEST_DIR"));
        assert!(!is_about_this_package("CARGO_HOME"));
        assert!(!is_about_this_package("CARGO_TARGET_DIR"));
    }
}
