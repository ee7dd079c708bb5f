//! `cargo xtask bench`: how long the balancer takes for a packet, beside the least that any balancer of its kind
//! must do.
//!
//! The kernel runs the loaded program itself (`BPF_PROG_TEST_RUN`), behind a wrapper that restores the packet; see
//! `docs/performance.md`. Invariant: a figure is printed only for packets that were counted where they should be.

mod cases;
mod chart;
mod control;
mod facts;
mod floods;
mod measure;
mod report;
mod run;
mod scene;
mod system;
mod traffic;
mod wrapper;

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::measure::Effort;

#[derive(Parser)]
#[command(
    name = "bench",
    about = "Measures the balancer's time per packet against a floor (root)",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Fewer and shorter rounds: less exact, done in half a minute
    #[arg(long)]
    quick: bool,
    /// For people or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Draw the ratios as a chart into this file, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only groups of cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Subcommand)]
enum Command {
    /// Measure whole connections through MeshLB, other balancers, and none
    System(system::Arguments),
    /// Measure what becomes of honest clients in a flood, through MeshLB and through nftables
    Floods(floods::Arguments),
    /// Measure the agent: how soon backends are in the maps, and what it takes of the machine
    Control(control::Arguments),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    if let Err(error) = perform(&Arguments::parse()) {
        let _ = writeln!(std::io::stderr(), "bench: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn perform(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Some(Command::System(arguments)) => return system::perform(arguments),
        Some(Command::Floods(arguments)) => return floods::perform(arguments),
        Some(Command::Control(arguments)) => return control::perform(arguments),
        None => {}
    }
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let report = run::all(effort, &arguments.only)?;
    let text = match arguments.output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string_pretty(&report)?,
    };
    writeln!(stdout(), "{text}")?;
    arguments.svg.as_ref().map_or(Ok(()), |path| chart::write(path, &report.cases))
}
