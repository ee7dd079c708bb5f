//! The one place where the agent's loop reads clocks.

use mesh_common::flow::{Ticks, ticks};
use nix::time::{ClockId, clock_gettime};
use std::time::Instant;

/// Now, for the agent.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Now, as the kernel stamps flow records.
pub(super) fn kernel_now() -> Ticks {
    // CLOCK_MONOTONIC_COARSE is always there; it is the clock of `bpf_ktime_get_coarse_ns`.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    });
    ticks(now)
}
