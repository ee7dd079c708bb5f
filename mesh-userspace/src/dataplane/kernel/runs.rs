//! How often the kernel ran what is attached, and for how long.
//!
//! The kernel counts only while `kernel.bpf_stats_enabled` is set, and counts what a program tail-calls with the program
//! that was attached.

use super::{Kernel, PROGRAM, Tracer};
use aya::{Ebpf, programs::Program};
use std::{fs, time::Duration};

/// Where the kernel says whether it counts.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Runs of a program since it was loaded, as far as they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// How often.
    pub count: u64,
    /// For how long altogether.
    pub took: Duration,
}

impl Kernel {
    /// Runs of the plain instance, if the kernel counts.
    #[must_use]
    pub fn runs(&self) -> Option<Runs> {
        runs(&self.ebpf)
    }
}

impl Tracer {
    /// Runs of this instance, if the kernel counts.
    #[must_use]
    pub fn runs(&self) -> Option<Runs> {
        runs(&self.ebpf)
    }
}

fn runs(ebpf: &Ebpf) -> Option<Runs> {
    // A kernel without the switch (before 5.1) does not count.
    let is_on = fs::read_to_string(SWITCH).is_ok_and(|switch| switch.trim() != "0");
    let info = is_on.then(|| ebpf.program(PROGRAM).map(Program::info))??.ok()?;
    Some(Runs { count: info.run_count(), took: info.run_time() })
}
