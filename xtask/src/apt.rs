//! Installing packages on Debian and its relatives.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::{run, say};

/// Installs packages, as root. The lists of packages are fetched only when they are missing or stale, which
/// is when installing fails. Never removes a package to make room, and starts no service of those that it installs.
pub(crate) fn install(packages: &[String]) -> Result<()> {
    say(&format!("installing {} by apt-get", packages.join(" ")));
    let _quiet = NoServices::declare(Path::new(POLICY)).context("services cannot be kept from starting")?;
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

/// Whom packages ask before they start a service (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, installing starts no service. A machine that has a policy keeps its own.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn declare(policy: &Path) -> io::Result<Self> {
        if policy.exists() {
            return Ok(Self(None));
        }
        fs::write(policy, denial(std::process::id()))?;
        let declared = Self(Some(policy.to_owned()));
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(declared)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        // What stays denies nothing any more.
        let _ = self.0.as_ref().map(fs::remove_file);
    }
}

/// Denies (101) as long as the process is there, and allows (104) if it was killed and could not clean up.
fn denial(process: u32) -> String {
    format!(
        "#!/bin/sh\n# Of `cargo xtask`, while it installs packages.\n[ -e /proc/{process} ] && exit 101\nexit 104\n"
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(policy: &Path) -> Option<i32> {
        Command::new("sh").arg(policy).status().unwrap().code()
    }

    #[test]
    fn services_are_denied_until_the_packages_are_installed() {
        let policy = std::env::temp_dir().join(format!("xtask-policy-{}", std::process::id()));
        let quiet = NoServices::declare(&policy).unwrap();
        assert_eq!(answer(&policy), Some(101));
        drop(NoServices::declare(&policy).unwrap());
        assert!(policy.exists(), "a policy that was there stays");
        // No process has a number beyond 2^22.
        fs::write(&policy, denial(u32::MAX)).unwrap();
        assert_eq!(answer(&policy), Some(104));
        drop(quiet);
        assert!(!policy.exists());
    }
}
