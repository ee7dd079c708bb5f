//! Everything a developer runs, as `cargo xtask <command>`.
//!
//! Invariant: what is already installed or built is left alone, so that a second run is fast and needs no
//! network; what cannot be installed is said as commands to run.

mod apt;
mod ci;
mod commands;
mod consul;
mod crates;
mod deny;
mod dist;
mod ebpf;
mod host_tools;
mod process;
mod toolchain;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::host_tools::{BASIC, COMPARED};
use crate::workspace::{Profile, Workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Everything a developer of MeshLB runs")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the kernel programs, then the agent that embeds them
    Build {
        /// Optimised
        #[arg(long)]
        release: bool,
    },
    /// Build, then run packets, most of them odd, through the loaded program and its source on the host (root)
    Fuzz {
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        packets: u64,
        /// Which: the same seed makes the same packets
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Build, then run all tests (root: they make network namespaces and load programs)
    Test {
        /// Only tests whose name contains one of these
        filters: Vec<String>,
        /// Arguments for the test runner, after `--`
        #[arg(last = true)]
        runner: Vec<String>,
    },
    /// Build optimised, then show a whole load balancer at work in network namespaces (root)
    Demo {
        /// Arguments for the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build optimised, then measure: the program alone, with `system` whole connections, with `floods`
    /// clients in floods, with `control` the agent (root)
    Bench {
        /// Arguments for the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build what is shipped into `dist` below the target directory: a static binary, its pages, a package, checksums
    Dist {
        /// Build a second time, in another directory, and compare
        #[arg(long)]
        verify: bool,
        /// Install, upgrade and purge the package in a clean Debian (root)
        #[arg(long)]
        test: bool,
        /// Build nothing: test a package with this binary
        #[arg(long, requires = "test", conflicts_with = "verify")]
        binary: Option<PathBuf>,
    },
    /// Check the dependencies' licences and sources against `deny.toml`
    Deny,
    /// Everything a change must pass: format, lints, documentation, demo, tests (root)
    Ci,
}

fn main() -> ExitCode {
    if let Err(error) = perform(&Arguments::parse().command) {
        process::say(&format!("{error:#}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn perform(task: &Task) -> Result<()> {
    let workspace = Workspace::discover()?;
    match task {
        Task::Build { release } => commands::build(&workspace, Profile::of(*release)),
        Task::Test { filters, runner } => commands::test(&workspace, filters, runner),
        Task::Fuzz { packets, seed } => commands::fuzz(&workspace, *packets, *seed),
        Task::Demo { arguments } => commands::scenario(&workspace, "demo", &[BASIC], arguments),
        Task::Bench { arguments } => {
            let compares =
                arguments.first().is_some_and(|first| ["system", "floods"].contains(&first.as_str()));
            commands::scenario(
                &workspace,
                "bench",
                if compares { &[BASIC, COMPARED][..] } else { &[BASIC] },
                arguments,
            )
        }
        Task::Dist { binary: Some(binary), .. } => dist::test_with(&workspace, binary),
        Task::Dist { verify, test, binary: None } => dist::ship(&workspace, *verify, *test),
        Task::Deny => deny::check(&workspace),
        Task::Ci => ci::run_all(&workspace),
    }
}
