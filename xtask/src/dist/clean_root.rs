//! The package in a Debian that has nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{VERSION, copy, deb, empty};
use crate::{
    process::{run, say},
    workspace::Workspace,
};

/// The suite, which has the systemd that the unit is tested with.
const SUITE: &str = "bookworm";

/// What the package depends on.
const INCLUDED: &str = "init-system-helpers,passwd,systemd";

/// A version before every one that is shipped.
const BEFORE: &str = "0.0.1";

/// Installs a version before, upgrades to this one, removes and purges it.
///
/// # Errors
/// When anything is not as it should be, or anything is left.
pub(super) fn test(workspace: &Workspace, directory: &Path, epoch: &str) -> Result<()> {
    let archive = debian(workspace)?;
    let root = workspace.target().join("dist-root");
    empty(&root)?;
    run(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(&root))?;
    let packages = root.join("packages");
    fs::create_dir(&packages)?;
    let now = deb::make(workspace, directory, VERSION, epoch)?;
    copy(&now, &packages.join(now.file_name().context("a package has a name")?))?;
    let before = before(workspace, directory, epoch)?;
    fs::rename(&before, packages.join(before.file_name().context("a package has a name")?))?;
    fs::write(packages.join("test.sh"), include_str!("clean_root.sh"))?;
    // Neither this machine's network nor its processes are the package's business.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "--pid", "--fork", "--mount-proc"])
        .arg(format!("--root={}", root.display()));
    command.args(["/bin/sh", "/packages/test.sh", BEFORE, VERSION]);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command).context("the package is not as it should be")?;
    Ok(fs::remove_dir_all(&root)?)
}

/// A package of a version before, whose example of a configuration was another.
fn before(workspace: &Workspace, directory: &Path, epoch: &str) -> Result<PathBuf> {
    let example = directory.join("meshlb.toml");
    let text = fs::read_to_string(&example)?;
    fs::write(&example, format!("# An older example.\n{text}"))?;
    let package = deb::make(workspace, directory, BEFORE, epoch);
    fs::write(&example, text)?;
    package
}

/// A small Debian in an archive, made once.
fn debian(workspace: &Workspace) -> Result<PathBuf> {
    let archive = workspace.tools().join(format!("debian-{SUITE}.tar"));
    if !archive.is_file() {
        say(&format!("making a Debian {SUITE} to install the package in, once"));
        let beside = workspace.tools().join("debian.new.tar");
        fs::create_dir_all(workspace.tools())?;
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--include", INCLUDED, SUITE]).arg(&beside);
        run(&mut command)?;
        fs::rename(&beside, &archive)?;
    }
    Ok(archive)
}
