//! What is measured of an agent, and how it is read off its process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// What was measured in one shape. Times are milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    /// From a reload that adds all services to maps that have all backends.
    #[serde(rename = "reload_ms")]
    pub(super) reload: f64,
    /// From a list that appears in a file to maps that have all backends.
    #[serde(rename = "discovery_ms")]
    pub(super) discovery: f64,
    /// From an order about one backend's weight to maps in which it has it, and to a file that keeps the order; median.
    #[serde(rename = "order_ms")]
    pub(super) order: f64,
    /// From a list in a file from which one backend is gone, or to which it has come back, to maps that say so; median.
    #[serde(rename = "arrival_ms")]
    pub(super) arrival: f64,
    /// Memory of the agent with all backends, without what it shares with the kernel.
    pub(super) rss_mib: f64,
    /// Of one processor, while nothing happens and nobody is probed.
    pub(super) idle_percent: f64,
    /// The same with a probe of each backend every ten seconds.
    pub(super) probed_percent: f64,
}

/// In milliseconds.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle one; an even number has none, and the higher of the two is taken.
pub(super) fn median(mut times: Vec<Duration>) -> Result<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("nothing was measured")
}

/// Memory of a process that is its own, as `/proc/PID/status` has it: MiB.
pub(super) fn memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
    let kibibytes: f64 = value("RssAnon:").context("the kernel does not say RssAnon")?.parse()?;
    Ok(kibibytes / 1024.0)
}

/// How much of a processor a process takes in a while: per cent.
pub(super) fn processor(pid: u32, during: Duration) -> Result<f64> {
    let (begin, before) = (Instant::now(), ticks(pid)?);
    thread::sleep(during);
    let used = ticks(pid)? - before;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel does not say how long a tick is")?;
    Ok(100.0 * used / f64::from(u32::try_from(per_second)?) / begin.elapsed().as_secs_f64())
}

/// Time that a process has had on processors: fields 14 and 15 of `/proc/PID/stat`, ticks.
fn ticks(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = stat.rsplit_once(')').map(|(_, rest)| rest).context("no process")?;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    field(14).zip(field(15)).map(|(user, system)| user + system).context("no times of the process")
}
