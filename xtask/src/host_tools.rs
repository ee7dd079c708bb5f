//! Programs that tests, demo and benchmarks call.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    apt,
    process::{find_program, is_root, say, succeeds},
};

/// A program (or the path of a file), and the package of Debian and most others that has it.
pub(crate) type Tool = (&'static str, &'static str);

/// What everything needs.
pub(crate) const BASIC: &[Tool] = &[
    // Namespaces, links, addresses, routes.
    ("ip", "iproute2"),
    // Offloads: a veth hands over packets with unfinished checksums unless told otherwise.
    ("ethtool", "ethtool"),
    // What the demo suggests to try.
    ("curl", "curl"),
    ("nsenter", "util-linux"),
    // A terminal for what only a terminal shows.
    ("script", "bsdutils"),
    // Tests ping VIPs.
    ("ping", "iputils-ping"),
    // Reads what `meshlb trace` has written.
    ("tcpdump", "tcpdump"),
    // Asks name servers behind VIPs.
    ("dig", "bind9-dnsutils"),
];

/// What the comparison with other balancers needs.
pub(crate) const COMPARED: &[Tool] = &[
    // Requests and bytes.
    ("wrk", "wrk"),
    ("iperf3", "iperf3"),
    // The backends' HTTP server, and the balancers.
    ("nginx", "nginx"),
    (NGINX_STREAM, "libnginx-mod-stream"),
    ("haproxy", "haproxy"),
    ("nft", "nftables"),
];

/// What backends are discovered from. Packages without a service, where there is a choice; Consul has a
/// [module](crate::consul) of its own.
pub(crate) const SOURCES: &[Tool] =
    &[("dnsmasq", "dnsmasq-base"), ("etcd", "etcd-server"), ("etcdctl", "etcd-client")];

/// What scrapes; `promtool`, which checks rules, comes with it.
pub(crate) const MONITORING: &[Tool] = &[("promtool", "prometheus")];

/// What looks at the web page; the driver follows the browser's version.
pub(crate) const BROWSER: &[Tool] = &[("chromium", "chromium"), ("chromedriver", "chromium-driver")];

/// What runs the unit.
pub(crate) const INIT: &[Tool] = &[("systemctl", "systemd")];

/// What the shipped binary is built with: ring has parts in C.
pub(crate) const STATIC: &[Tool] = &[("musl-gcc", "musl-tools"), ("readelf", "binutils")];

/// What makes packages and images, and a clean system to install them in.
pub(crate) const PACKAGING: &[Tool] =
    &[("dpkg-deb", "dpkg"), ("mmdebstrap", "mmdebstrap"), ("buildah", "buildah")];

/// What all tests need.
pub(crate) const ALL: &[&[Tool]] = &[BASIC, COMPARED, SOURCES, MONITORING, BROWSER, INIT];

/// Where Debian has the module that balances TCP.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Packages and the services that they bring, which would run from the next start of the machine on.
const SERVICES: [(&str, &str); 4] =
    [("nginx", "nginx"), ("haproxy", "haproxy"), ("etcd-server", "etcd"), ("prometheus", "prometheus")];

/// Installs what is missing, and leaves it off.
///
/// # Errors
/// When it cannot be installed; the error says what to run.
pub(crate) fn ensure(tools: &[&[Tool]]) -> Result<()> {
    let packages = missing(&tools.concat(), |program| find_program(program).is_some());
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
    say(&format!("missing for tests, demo or benchmarks: {list}"));
    apt::install(&packages)?;
    let installed = |(package, _): &&(&str, &str)| packages.iter().any(|it| it == package);
    SERVICES.iter().filter(installed).for_each(|(_, service)| keep_off(service));
    Ok(())
}

/// Keeps a service from starting with the machine. Where there is no systemd, nothing would start it.
fn keep_off(service: &str) {
    if find_program("systemctl").is_some() && !succeeds(Command::new("systemctl").args(["disable", service]))
    {
        say(&format!("{service} will start with this machine: `systemctl disable {service}` failed"));
    }
}

fn missing(tools: &[Tool], present: impl Fn(&str) -> bool) -> Vec<String> {
    tools.iter().filter(|(program, _)| !present(program)).map(|(_, package)| (*package).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_missing_programs_are_wanted() {
        assert_eq!(missing(BASIC, |_| true), Vec::<String>::new());
        assert_eq!(missing(BASIC, |program| program != "ethtool"), ["ethtool"]);
        assert_eq!(missing(BASIC, |_| false).len(), BASIC.len());
    }

    #[test]
    fn a_file_counts_as_a_program() {
        assert_eq!(
            missing(&[("/dev/no-such-file", "package")], |file| find_program(file).is_some()),
            ["package"]
        );
        assert_eq!(missing(&[("/proc/self/exe", "package")], |file| find_program(file).is_some()), [""; 0]);
    }

    #[test]
    fn services_are_those_of_packages() {
        let known = |wanted: &str| ALL.concat().iter().any(|(_, package)| *package == wanted);
        assert!(SERVICES.iter().all(|(package, _)| known(package)));
    }
}
