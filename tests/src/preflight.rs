//! What the machine must offer; a missing thing fails the test with advice, it never skips it.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

/// Checks for root and the tools.
pub(crate) fn check() -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    ensure!(root, "network namespaces and XDP need root: run the tests as root, e.g. with `sudo -E`");
    tool("ip", "-V", "iproute2")?;
    tool("ethtool", "--version", "ethtool")?;
    tool("ping", "-V", "iputils-ping")
}

fn tool(program: &str, probe: &str, package: &str) -> Result<()> {
    let status = start(program, probe, package)?;
    ensure!(status.success(), "`{program} {probe}` failed with {status}: reinstall the package `{package}`");
    Ok(())
}

/// Checks that a program can be started, whatever it thinks of being asked for its version. The error names the package
/// to install.
pub fn present(program: &str, package: &str) -> Result<()> {
    start(program, "--version", package).map(drop)
}

/// Where Consul is: in `PATH`, or where `cargo xtask test` has unpacked it, in the target directory.
pub fn consul() -> Result<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let executable = std::env::current_exe().context("cannot find the running executable")?;
    let targets = executable.ancestors().map(|directory| directory.join("tools/consul/usr/bin"));
    let mut programs = std::env::split_paths(&paths).chain(targets).map(|directory| directory.join("consul"));
    let found = programs.find(|program| program.is_file());
    found.context("there is no `consul`: run `cargo xtask test`, which unpacks it, or install it")
}

fn start(program: &str, argument: &str, package: &str) -> Result<ExitStatus> {
    let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.with_context(|| format!("`{program}` does not run: install the package `{package}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_present_even_if_it_does_not_know_its_version() {
        assert!(present("false", "coreutils").is_ok());
        let error = present("no-such-program", "a-package").unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` does not run: install the package `a-package`");
    }
}
