//! Programs that tests, demo and benchmarks call.

use anyhow::{Result, bail};

use crate::{
    apt,
    process::{find_program, is_root, say},
};

/// A program, and the package of Debian and most others that has it.
const TOOLS: [(&str, &str); 5] = [
    // Namespaces, links, addresses, routes.
    ("ip", "iproute2"),
    // Offloads: a veth hands over packets with unfinished checksums unless told otherwise.
    ("ethtool", "ethtool"),
    // What the demo suggests to try.
    ("curl", "curl"),
    ("nsenter", "util-linux"),
    // Tests ping VIPs.
    ("ping", "iputils-ping"),
];

/// Installs what is missing.
///
/// # Errors
/// When it cannot be installed; the error says what to run.
pub(crate) fn ensure() -> Result<()> {
    let packages = missing(|program| find_program(program).is_some());
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if find_program("apt-get").is_none() {
        bail!("missing; install by your system's package manager: {list}");
    }
    if !is_root() {
        bail!("missing; run, then try again:\n    sudo apt-get install {list}");
    }
    say(&format!("missing for tests and demo: {list}"));
    apt::install(&packages)
}

fn missing(present: impl Fn(&str) -> bool) -> Vec<String> {
    TOOLS.iter().filter(|(program, _)| !present(program)).map(|(_, package)| (*package).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_missing_programs_are_wanted() {
        assert_eq!(missing(|_| true), Vec::<String>::new());
        assert_eq!(missing(|program| program != "ethtool"), ["ethtool"]);
        assert_eq!(missing(|_| false), ["iproute2", "ethtool", "curl", "util-linux", "iputils-ping"]);
    }
}
