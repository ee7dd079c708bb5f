//! Commands that need no agent: check, detach.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::connect;
use super::error::CliError;
use super::output::Output;
use crate::agent;
use crate::config::{self, Agent, Config};

/// What `meshlb check` found in a valid file.
#[derive(Debug, Serialize)]
struct CheckReport {
    file: String,
    services: usize,
    backends: usize,
}

/// Says whether `file` is a valid configuration.
pub(super) fn check<W: Write>(file: &Path, output: &mut Output<W>) -> Result<(), CliError> {
    let config = config::load(file)?;
    output.show(&report(file, &config), |r| {
        let (services, backends) = (plural(r.services, "service"), plural(r.backends, "backend"));
        format!("{}: valid: {services}, {backends}", r.file)
    })
}

fn report(file: &Path, config: &Config) -> CheckReport {
    CheckReport {
        file: file.display().to_string(),
        services: config.services.len(),
        backends: config.services.iter().map(|s| s.backends.len()).sum(),
    }
}

fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Removes what an agent left in the kernel, unless it still runs.
pub(super) fn detach(file: Option<&Path>, socket: Option<PathBuf>) -> Result<(), CliError> {
    let config = file.map(config::load).transpose()?;
    let pins = config.as_ref().map_or(Path::new(Agent::PIN_PATH), |c| &c.agent.pin_path);
    let socket = connect::socket(socket.or_else(|| config.as_ref().map(|c| c.api.socket.clone())));
    if connect::is_alive(&socket) {
        return Err(CliError::AgentRunning { socket });
    }
    Ok(agent::detach(pins)?)
}
