//! Commands that need no agent: check, detach.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use aya::util::nr_cpus;
use serde::Serialize;

use super::connect;
use super::error::CliError;
use super::format::mebibytes;
use super::output::Output;
use super::table::Column::{Number, Text};
use super::table::table;
use crate::agent;
use crate::config::{self, Agent, Config};
use crate::dataplane::kernel::{InTries, MapMemory, memory};
use crate::dataplane::{abi_key, vip_of};
use crate::wide;

/// What `meshlb check` found in a valid file.
#[derive(Debug, Serialize)]
struct CheckReport {
    file: String,
    services: usize,
    backends: usize,
    maps: Vec<MapView>,
    /// The sum over the maps, on all CPUs together.
    memory_bytes: u64,
}

/// A map that the file makes.
#[derive(Debug, Serialize)]
struct MapView {
    map: &'static str,
    entries: u32,
    bytes: u64,
}

/// Says whether `file` is a valid configuration.
pub(super) fn check<W: Write>(file: &Path, output: &mut Output<W>) -> Result<(), CliError> {
    let config = config::load(file)?;
    output.show(&report(file, &config)?, |r| {
        let (services, backends) = (plural(r.services, "service"), plural(r.backends, "backend"));
        format!("{}: valid: {services}, {backends}\n\n{}", r.file, maps(r))
    })
}

fn report(file: &Path, config: &Config) -> Result<CheckReport, CliError> {
    let maps: Vec<MapView> = maps_of(config)?
        .into_iter()
        .map(|MapMemory { map, entries, bytes }| MapView { map, entries, bytes })
        .collect();
    Ok(CheckReport {
        file: file.display().to_string(),
        services: config.services.len(),
        backends: config.services.iter().map(|s| s.backends.len()).sum(),
        memory_bytes: maps.iter().map(|map| map.bytes).sum(),
        maps,
    })
}

/// The maps that a configuration makes.
pub(super) fn maps_of(config: &Config) -> Result<Vec<MapMemory>, CliError> {
    Ok(memory(config.limits.into(), in_tries(config), possible_cpus()?))
}

fn in_tries(config: &Config) -> InTries {
    let keys: Vec<_> = config.services.iter().map(|service| abi_key(service.key())).collect();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let rules = wide::count(&keys, usize::MAX).unwrap_or(usize::MAX);
    let vips: BTreeSet<_> = keys.iter().map(|key| vip_of(*key)).collect();
    InTries { vips: number(vips.len()), groups: number(wide::prefixes(&keys)), rules: number(rules) }
}

/// CPUs that may come to be on this host: each has its own element of a per-CPU map.
fn possible_cpus() -> Result<u32, CliError> {
    let cpus =
        nr_cpus().map_err(|(path, error)| anyhow::anyhow!("cannot count the CPUs in {path}: {error}"))?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX))
}

/// What the maps take, and all together.
fn maps(report: &CheckReport) -> String {
    let row = |view: &MapView| vec![view.map.to_owned(), view.entries.to_string(), mebibytes(view.bytes)];
    let sum = vec!["all".to_owned(), String::new(), mebibytes(report.memory_bytes)];
    let rows = report.maps.iter().map(row).chain([sum]).collect();
    table(&[Text("MAP"), Number("ENTRIES"), Number("MIB")], rows)
}

fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Removes what an agent left in the kernel, unless it still runs.
pub(super) fn detach(file: Option<&Path>, socket: Option<PathBuf>) -> Result<(), CliError> {
    let config = file.map(config::load).transpose()?;
    let pins = config.as_ref().map_or(Path::new(Agent::PIN_PATH), |c| &c.agent.pin_path);
    let socket = connect::socket(socket.or_else(|| config.as_ref().map(|c| c.api.socket.clone())));
    if connect::is_alive(&socket) {
        return Err(CliError::AgentRunning { socket });
    }
    Ok(agent::detach(pins)?)
}
