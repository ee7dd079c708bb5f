//! Installing packages on Debian and its relatives.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{run, say};

/// Installs packages, as root. The lists of packages are fetched only when they are missing or stale, which
/// is when installing fails. Never removes a package to make room.
pub(crate) fn install(packages: &[String]) -> Result<()> {
    say(&format!("installing {} by apt-get", packages.join(" ")));
    if run(&mut install_command(packages)).is_ok() {
        return Ok(());
    }
    say("fetching the lists of packages, then once more");
    if let Err(error) = run(apt_get().args(["-qq", "update"])) {
        say(&format!("{error}; some lists may be old"));
    }
    run(&mut install_command(packages)).context("the packages cannot be installed")
}

fn install_command(packages: &[String]) -> Command {
    let mut command = apt_get();
    command.args(["install", "-qq", "-y", "--no-install-recommends", "--no-remove"]).args(packages);
    command
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
