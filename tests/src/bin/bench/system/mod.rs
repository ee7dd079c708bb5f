//! `cargo xtask bench system`: whole connections through MeshLB and through what stands in its place elsewhere, on the
//! same hosts in network namespaces, in turns.

mod balancer;
mod haproxy;
mod iperf;
mod nftables;
mod nginx;
mod processors;
mod report;
mod stage;
mod turn;
mod way;
mod wrk;

use std::io::{Write as _, stderr, stdout};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use mesh_tests::preflight;

use self::report::{Report, Row};
pub(crate) use self::stage::Stage;
use self::turn::{Length, Sample, Seen};
pub(crate) use self::way::Way;
use crate::Output;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Fewer and shorter turns: less exact, done in a minute and a half
    #[arg(long)]
    quick: bool,
    /// How many turns each way gets, instead of 5 (3 with `--quick`)
    #[arg(long)]
    rounds: Option<std::num::NonZeroUsize>,
    /// Native XDP for MeshLB instead of generic: on a veth it copies every packet, unlike on a card
    #[arg(long)]
    native: bool,
    /// For people or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    turn: Length,
}

impl Effort {
    const FULL: Self =
        Self { rounds: 5, turn: Length { requests: Duration::from_secs(3), bulk: Duration::from_secs(2) } };
    const QUICK: Self =
        Self { rounds: 3, turn: Length { requests: Duration::from_secs(1), bulk: Duration::from_secs(1) } };

    fn of(arguments: &Arguments) -> Self {
        let effort = if arguments.quick { Self::QUICK } else { Self::FULL };
        Self { rounds: arguments.rounds.map_or(effort.rounds, Into::into), ..effort }
    }
}

/// What must be installed: programs and their packages.
const TOOLS: [(&str, &str); 5] =
    [("wrk", "wrk"), ("iperf3", "iperf3"), ("nginx", "nginx"), ("haproxy", "haproxy"), ("nft", "nftables")];

/// Measures all ways and prints the report; an error if any of them failed.
pub(crate) fn perform(arguments: &Arguments) -> Result<()> {
    TOOLS.iter().try_for_each(|(program, package)| preflight::present(program, package))?;
    let report = measure(Effort::of(arguments), arguments.native)?;
    let text = match arguments.output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string_pretty(&report)?,
    };
    writeln!(stdout(), "{text}")?;
    let failures = report.failures();
    ensure!(failures == 0, "{failures} of the ways failed");
    Ok(())
}

/// In each round every way has its turn, so that whatever else the machine does meets them all alike.
fn measure(effort: Effort, native: bool) -> Result<Report> {
    let mut players = Vec::new();
    for way in Way::ALL {
        say(&format!("setting up {}", way.title()));
        players.push(Player::new(Stage::build(way, native).with_context(|| way.title())?));
    }
    for round in 1..=effort.rounds {
        say(&format!("round {round} of {}", effort.rounds));
        players.iter_mut().for_each(|player| player.play(effort.turn));
    }
    Report::new(effort.rounds, players.into_iter().map(Player::row).collect())
}

/// A way with what was measured of it.
struct Player {
    stage: Stage,
    seen: Seen,
    samples: Vec<Sample>,
    failure: Option<String>,
}

impl Player {
    fn new(stage: Stage) -> Self {
        Self { stage, seen: Seen::default(), samples: Vec::new(), failure: None }
    }

    /// Takes a turn. A way that failed takes no more.
    fn play(&mut self, length: Length) {
        if self.failure.is_some() {
            return;
        }
        match turn::take(&self.stage, length, &mut self.seen) {
            Ok(sample) => self.samples.push(sample),
            Err(error) => self.failure = Some(format!("{error:#}")),
        }
    }

    fn row(self) -> Row {
        Row::new(self.stage.way, self.stage.unit(), self.seen, &self.samples, self.failure)
    }
}

/// On stderr: stdout belongs to the report.
fn say(message: &str) {
    // Whoever closed the pipe does not want to know.
    let _ = writeln!(stderr(), "bench: {message}");
}
