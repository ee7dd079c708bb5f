//! Whether a host can be a balancer, before the first run: `meshlb preflight`. Needs no agent.
//!
//! Invariants: nothing of the host is changed, and no packet is sent but for the neighbours of backends, unless backends
//! are to be asked; every check answers, and what it cannot find out it says. What is found is read in few places
//! (`links`, `ethtool`, `netdev`, `programs`, files of `/proc`) and judged by pure functions.

mod asking;
mod finding;
mod host;
mod interfaces;
mod links;
mod netdev;
mod places;
mod programs;
mod services;
mod ways;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

pub use finding::{CHECKS, Finding, Level, Report};

use crate::config::{Agent, Config, Probing};
use crate::dataplane::kernel::MapMemory;
use host::Needs;

/// Where the configuration is, unless another file is named.
pub const CONFIG: &str = "/etc/meshlb/meshlb.toml";

/// What is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The configuration, and what its maps take.
    pub config: &'a Config,
    /// See there.
    pub maps: &'a [MapMemory],
    /// Whether an agent answers at the configured socket, and so is who has port and pins.
    pub is_running: bool,
    /// Whether backends are asked: at their own addresses, and at VIPs by the way of clients.
    pub ask: bool,
}

/// Checks the host; without a configuration, as far as that goes.
///
/// # Errors
/// The kernel does not tell of its interfaces or routes.
pub async fn check(wanted: Option<Wanted<'_>>) -> anyhow::Result<Vec<Finding>> {
    let mut findings = host(wanted);
    if let Some(wanted) = wanted {
        findings.extend(configured(wanted).await?);
    }
    Ok(findings)
}

/// What a file of the kernel says; `None`: there is none.
fn told(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn host(wanted: Option<Wanted<'_>>) -> Vec<Finding> {
    let status = told("/proc/self/status").unwrap_or_default();
    let pins = wanted.map_or(Path::new(Agent::PIN_PATH), |wanted| &wanted.config.agent.pin_path);
    let needs = wanted.map_or(Needs::unknown(), |wanted| Needs::of(wanted.config));
    let at_once = wanted.map_or_else(|| Probing::default().at_once, |w| w.config.probing.at_once);
    let mut findings = vec![
        host::kernel(&told("/proc/sys/kernel/osrelease").unwrap_or_default()),
        host::capabilities(&status, needs),
        places::bpffs(pins, host::has_sys_admin(&status)),
        host::jit(told("/proc/sys/net/core/bpf_jit_enable").as_deref()),
        host::unprivileged(told("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref()),
        host::lockdown(told("/sys/kernel/security/lockdown").as_deref()),
        host::open_files(&told("/proc/self/limits").unwrap_or_default(), at_once),
    ];
    if needs.vip_probes {
        findings.push(places::tun());
    }
    findings
}

async fn configured(wanted: Wanted<'_>) -> anyhow::Result<Vec<Finding>> {
    let Wanted { config, maps, is_running, ask } = wanted;
    let agent = &config.agent;
    let links = links::read().await.context("the kernel does not tell of its interfaces")?;
    let hops = ways::resolve(config).await.context("the kernel does not tell of its routes")?;
    let mut findings = vec![places::memory(maps, &told("/proc/meminfo").unwrap_or_default(), is_running)];
    findings.extend(places::directories(config));
    for (section, address) in [("metrics", config.metrics.listen), ("web", config.web.listen)] {
        findings.extend(places::listen(section, address, is_running));
    }
    findings.extend(agent.next_program.as_deref().map(places::next_program));
    let ours = programs::ours(&agent.pin_path);
    for name in &agent.interfaces {
        findings.extend(interfaces::check(name, &links, agent, &ours));
    }
    findings.extend(interfaces::egress(config, &links, &hops));
    findings.extend(ways::routes(config, &hops));
    findings.extend(ways::lengths(config, &links, &hops));
    findings.extend(services::check(config, &links, &hops));
    if ask {
        findings.extend(asking::check(config, &hops).await);
    }
    Ok(findings)
}
