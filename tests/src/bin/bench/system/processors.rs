//! The time that all processors of the machine have worked.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Fields of the first line of `/proc/stat` that are work: user, nice, system, irq, softirq (proc_stat(5)). Idle, waiting
/// for disks and what a hypervisor took are none; time of guests is in user.
const WORK: [usize; 5] = [0, 1, 2, 5, 6];

/// Since the machine started. In steps of a clock tick, a hundredth of a second.
pub(crate) fn worked() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = work(&stat).context("/proc/stat does not begin with the times of all processors")?;
    let rate = sysconf(SysconfVar::CLK_TCK)?.context("the clock's ticks have no rate")?;
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::try_from(rate)?;
    Ok(Duration::from_nanos(u64::try_from(nanoseconds)?))
}

fn work(stat: &str) -> Option<u64> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = times.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    WORK.iter().map(|field| times.get(*field)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_no_work() {
        assert_eq!(work("cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 1"), Some(7_600_321));
        assert_eq!(work("intr 1"), None);
    }

    #[test]
    fn the_machine_has_worked() {
        assert!(worked().is_ok_and(|time| !time.is_zero()));
    }
}
