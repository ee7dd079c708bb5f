//! The command line.
//!
//! Invariant: what a command has to say goes to standard output through one writer, errors go to standard error
//! with what to do next, and the exit status is 0 on success, 1 on failure, 2 on bad usage; 3 if `status` or
//! `preflight` has found something wrong.

mod args;
mod ask;
mod bundle;
mod connect;
mod dispatch;
mod drain;
mod error;
mod events;
mod examples;
mod explain;
mod format;
mod local;
mod manual;
mod names;
mod output;
mod preflight;
mod screens;
mod table;
mod top;
mod trace;

use std::process::ExitCode;

use clap::FromArgMatches as _;

pub use args::{
    Abbreviated, Args, Ask, BackendArgs, BundleArgs, Command, DecapArgs, ExplainArgs, FlowsArgs, Format,
    PreflightArgs, TraceArgs, Whose,
};
pub use error::CliError;
pub use explain::PacketError;
pub use output::Output;
pub use trace::CaptureError;

/// Parses the command line, does what it says, reports, and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let matches = examples::command().get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut output = Output::new(args.output, std::io::stdout().lock());
    match dispatch::dispatch(args, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(&mut std::io::stderr().lock()),
    }
}
