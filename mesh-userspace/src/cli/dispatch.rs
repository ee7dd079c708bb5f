//! From the command line to the doing.

use std::io::Write;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use super::args::{Args, Command, DecapArgs};
use super::error::CliError;
use super::output::Output;
use super::{ask, bundle, local, manual, preflight};
use crate::{agent, decap, privileges};

/// Does what `args` say and prints the answer to `output`.
pub(super) fn dispatch<W: Write>(args: Args, output: &mut Output<W>) -> Result<(), CliError> {
    match args.command {
        Command::Run { config } => {
            let prepared = agent::prepare(&config)?;
            Ok(runtime(Builder::new_multi_thread())?.block_on(agent::run(prepared))?)
        }
        Command::Check { file } => local::check(&file, output),
        Command::Preflight(preflight_args) => {
            runtime(Builder::new_current_thread())?.block_on(preflight::preflight(&preflight_args, output))
        }
        Command::Bundle(bundle_args) => {
            runtime(Builder::new_current_thread())?.block_on(bundle::bundle(bundle_args, args.socket, output))
        }
        Command::Ask(question) => {
            runtime(Builder::new_current_thread())?.block_on(ask::ask(question, args.socket, output))
        }
        Command::Detach { config } => local::detach(config.as_deref(), args.socket),
        Command::Completions { shell } => manual::completions(shell, output),
        Command::Man { directory: None } => manual::page(output),
        Command::Man { directory: Some(directory) } => manual::pages(&directory),
        Command::Decap(arguments) => {
            let options = options(arguments);
            privileges::keep(privileges::of_decapsulator(options.metrics)).map_err(anyhow::Error::from)?;
            Ok(runtime(Builder::new_multi_thread())?.block_on(decap::run(options))?)
        }
    }
}

fn options(
    DecapArgs { interface, vips, mode, gue_ports, geneve_ports, metrics }: DecapArgs,
) -> decap::Options {
    decap::Options { interface, vips: vips.into_iter().collect(), mode, gue_ports, geneve_ports, metrics }
}

fn runtime(mut builder: Builder) -> anyhow::Result<Runtime> {
    builder.enable_all().build().context("cannot start the runtime")
}
