//! `cargo xtask bench control`: how long the agent takes to bring ten thousand backends, and one, to the maps, and what it
//! takes of the machine while nothing happens.

mod measure;
mod report;
mod stage;

use std::io::{Write as _, stderr, stdout};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use self::measure::Figures;
use self::report::Report;
use self::stage::{Shape, Stage};
use crate::Output;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Fewer repetitions and shorter silence, of a tenth of the backends
    #[arg(long)]
    quick: bool,
    /// For people or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// Backends of all services together.
    backends: usize,
    repetitions: usize,
    /// How long the agent is left alone.
    silence: Duration,
}

impl Effort {
    const FULL: Self = Self { backends: 10_000, repetitions: 7, silence: Duration::from_secs(20) };
    const QUICK: Self = Self { backends: 1000, repetitions: 3, silence: Duration::from_secs(3) };
}

/// Measures all shapes and prints the report.
pub(crate) fn perform(arguments: &Arguments) -> Result<()> {
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let shapes = [
        Shape { services: effort.backends / 10, backends: 10 },
        Shape { services: 1, backends: effort.backends },
    ];
    let mut report = Report::new()?;
    for shape in shapes {
        report.add(shape, figures(shape, effort).with_context(|| shape.to_string())?);
    }
    let text = match arguments.output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string_pretty(&report)?,
    };
    Ok(writeln!(stdout(), "{text}")?)
}

/// On stderr: stdout belongs to the report.
fn say(message: &str) {
    // Whoever closed the pipe does not want to know.
    let _ = writeln!(stderr(), "bench: {message}");
}

fn figures(shape: Shape, effort: Effort) -> Result<Figures> {
    say(&format!("measuring {shape}"));
    let mut stage = Stage::set(shape)?;
    let reload = stage.reload()?;
    let order = stage.orders(effort.repetitions)?;
    let (idle_percent, rss_mib) = (stage.idle(effort.silence)?, stage.rss()?);
    let discovery = stage.discovery()?;
    let arrival = stage.arrivals(effort.repetitions)?;
    stage.probe()?;
    let probed_percent = stage.idle(effort.silence)?;
    Ok(Figures { reload, discovery, order, arrival, rss_mib, idle_percent, probed_percent })
}
