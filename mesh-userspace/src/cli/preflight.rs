//! `meshlb preflight`: which configuration, and what comes of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::PreflightArgs;
use super::error::CliError;
use super::output::Output;
use super::{connect, local, screens};
use crate::config::{self, Config};
use crate::preflight::{self, CONFIG, Report, Wanted};

/// Checks the host and shows what was found; a failed check is a failure of the command.
pub(super) async fn preflight<W: Write>(
    args: &PreflightArgs,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let report = report(args.config.as_deref(), args.probe).await?;
    output.show(&report, screens::preflight)?;
    if report.fail == 0 { Ok(()) } else { Err(CliError::Unfit) }
}

async fn report(named: Option<&Path>, ask: bool) -> Result<Report, CliError> {
    let file = named.map(PathBuf::from).or_else(|| Some(PathBuf::from(CONFIG)).filter(|path| path.exists()));
    let Some(file) = file else { return Ok(Report::new(None, preflight::check(None).await?)) };
    let config = config::load(&file)?;
    let findings = against(&config, ask).await?;
    Ok(Report::new(Some(file.display().to_string()), findings))
}

async fn against(config: &Config, ask: bool) -> Result<Vec<preflight::Finding>, CliError> {
    let maps = local::maps_of(config)?;
    let is_running = connect::is_alive(&config.api.socket);
    Ok(preflight::check(Some(Wanted { config, maps: &maps, is_running, ask })).await?)
}
