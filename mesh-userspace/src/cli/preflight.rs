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
    let usual = || Some(PathBuf::from(CONFIG)).filter(|path| path.exists());
    let file = args.config.clone().or_else(usual);
    let config = file.as_deref().map(config::load).transpose()?;
    let report = report(file.as_deref().zip(config.as_ref()), args.probe).await?;
    output.show(&report, screens::preflight)?;
    if report.fail == 0 { Ok(()) } else { Err(CliError::Unfit) }
}

/// What is found, against the configuration of a file if there is one.
pub(super) async fn report(against: Option<(&Path, &Config)>, ask: bool) -> Result<Report, CliError> {
    let Some((file, config)) = against else { return Ok(Report::new(None, preflight::check(None).await?)) };
    let maps = local::maps_of(config)?;
    let is_running = connect::is_alive(&config.api.socket);
    let findings = preflight::check(Some(Wanted { config, maps: &maps, is_running, ask })).await?;
    Ok(Report::new(Some(file.display().to_string()), findings))
}
