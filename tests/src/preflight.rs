//! What the machine must offer; a missing thing fails the test with advice, it never skips it.

use std::process::{Command, Stdio};

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
    let status = Command::new(program).arg(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let advice = || format!("`{program}` does not run: install the package `{package}`");
    let status = status.with_context(advice)?;
    ensure!(status.success(), "`{program} {probe}` failed with {status}: reinstall the package `{package}`");
    Ok(())
}
