//! A whole load balancer at work: a client, the balancer and three backends in network namespaces, the agent,
//! real HTTP requests all the time, and what becomes of them while backends die, come back and are drained.
//!
//! Invariant: whatever is shown is checked; the exit status is 0 only if all of it is right.

mod hints;
mod packets;
mod phase;
mod play;
mod screen;
mod stage;
mod summary;
mod tally;
mod traffic;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;

use self::phase::Phase;
use self::play::Play;
use self::screen::Screen;
use self::stage::Stage;
use self::traffic::Log;

/// How much of the traffic is remembered while nothing is checked.
const MEMORY: Duration = Duration::from_secs(10);

/// Shows a load balancer at work in network namespaces, and checks what it shows (root).
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Leave everything running after the summary, with commands to try, until interrupted
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match perform(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was right.
fn perform(arguments: &Arguments) -> Result<bool> {
    let screen = Screen::open();
    let mut stage = Stage::build(&screen)?;
    let live = screen.follow(stage.traffic.log())?;
    let phases = Play::new(&mut stage, &screen).all()?;
    // Lines of text would never end; bars stay in their place.
    let live = (arguments.keep && screen.is_terminal()).then_some(live);
    screen.say(&summary::render(&phases))?;
    let packets = stage.packets()?;
    screen.say(&packets.to_string())?;
    if arguments.keep {
        screen.say(&hints::render(&stage))?;
        remember_little(stage.traffic.log());
    }
    drop(live);
    Ok(phases.iter().all(Phase::is_right) && packets.none_dropped())
}

/// Until a signal ends the process; the harness cleans up then.
fn remember_little(log: &Log) -> ! {
    loop {
        thread::sleep(MEMORY / 10);
        log.forget(Instant::now().checked_sub(MEMORY));
    }
}
