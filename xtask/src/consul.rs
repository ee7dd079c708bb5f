//! Consul for tests. Debian has it in the suite bullseye only: it is unpacked into the target directory, and neither the
//! machine's packages nor its lists of them are touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    apt,
    process::{find_program, run, say},
    workspace::Workspace,
};

/// Where the suite is.
const MIRROR: &str = "http://deb.debian.org/debian";

/// The suite's signing key, as the package debian-archive-keyring has had it.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-bullseye-stable.gpg",
    "/usr/share/keyrings/debian-archive-bullseye-stable.pgp",
];

/// Unpacks it where it is not installed and was not unpacked before. Tests look there, too.
///
/// # Errors
/// When it cannot be had; the error says what to install.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let directory = workspace.tools().join("consul");
    if find_program("consul").is_some() || directory.join("usr/bin/consul").is_file() {
        return Ok(());
    }
    if ["apt-get", "dpkg"].iter().any(|program| find_program(program).is_none()) {
        bail!("missing; install by your system's package manager: consul");
    }
    say("unpacking Consul from Debian's bullseye for tests, once");
    let scratch = workspace.tools().join("consul.new");
    unpack(&scratch).context("Consul cannot be unpacked; install `consul` so that it is in PATH")?;
    let _ = fs::remove_dir_all(&directory);
    fs::rename(&scratch, &directory).with_context(|| format!("{}", directory.display()))
}

/// Downloads the package by lists of its own, which are signed, and unpacks it.
fn unpack(scratch: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(scratch);
    let lists = scratch.join("lists");
    fs::create_dir_all(lists.join("partial")).with_context(|| format!("{}", lists.display()))?;
    let sources = scratch.join("sources.list");
    fs::write(&sources, source(keyring()?)).with_context(|| format!("{}", sources.display()))?;
    run(apt_get(scratch).args(["-qq", "update"]))?;
    run(apt_get(scratch).args(["-qq", "download", "consul"]).current_dir(scratch))?;
    let package = downloaded(scratch)?;
    run(Command::new("dpkg").arg("-x").arg(&package).arg(scratch))?;
    fs::remove_file(&package)?;
    fs::remove_dir_all(&lists)?;
    ensure!(scratch.join("usr/bin/consul").is_file(), "the package has no /usr/bin/consul");
    Ok(())
}

fn keyring() -> Result<&'static str> {
    let found = || KEYRINGS.into_iter().find(|file| Path::new(file).is_file());
    if found().is_none() {
        apt::install(&["debian-archive-keyring".to_owned()])?;
    }
    found().context("the package debian-archive-keyring has no key of bullseye")
}

fn source(keyring: &str) -> String {
    format!("deb [signed-by={keyring}] {MIRROR} bullseye main\n")
}

/// apt-get that knows this one source.
fn apt_get(scratch: &Path) -> Command {
    let option = |name: &str, value: &Path| format!("{name}={}", value.display());
    let mut command = Command::new("apt-get");
    command
        .args(["-o", &option("Dir::Etc::sourcelist", &scratch.join("sources.list"))])
        .args(["-o", "Dir::Etc::sourceparts=-"])
        .args(["-o", &option("Dir::State::lists", &scratch.join("lists"))])
        .args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="])
        // The directory may be one that no other user can enter.
        .args(["-o", "APT::Sandbox::User=root"]);
    command
}

fn downloaded(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut packages = entries.filter(|file| file.extension().is_some_and(|extension| extension == "deb"));
    packages.next().context("apt-get downloaded no package")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_knows_one_signed_source() {
        assert_eq!(source("/k.gpg"), "deb [signed-by=/k.gpg] http://deb.debian.org/debian bullseye main\n");
        let command = apt_get(Path::new("/s"));
        let arguments: Vec<_> = command.get_args().filter_map(|it| it.to_str()).collect();
        let expected =
            ["Dir::Etc::sourcelist=/s/sources.list", "Dir::Etc::sourceparts=-", "Dir::State::lists=/s/lists"];
        expected.iter().for_each(|option| assert!(arguments.contains(option), "{arguments:?}"));
    }
}
