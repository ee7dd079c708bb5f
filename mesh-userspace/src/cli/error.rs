//! How a command fails.

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;

use super::explain::PacketError;
use super::trace::CaptureError;
use crate::api::ClientError;
use crate::bundle::ArchiveError;
use crate::config::ConfigError;

/// Exit status of `meshlb status` and `meshlb preflight` where something is wrong; they have said what.
const UNWELL: u8 = 3;

/// A time as people read it.
fn age(time: Duration) -> String {
    super::format::age(time.as_secs_f64())
}

/// The first of many names.
fn shortened(names: &[String]) -> String {
    const MOST: usize = 8;
    let more = names.len().saturating_sub(MOST);
    let first = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The agent could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no packet to ask about.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Packets cannot be written to a file.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// No archive can be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The agent or a part of it ended with an error.
    #[error("{0:#}")]
    Agent(#[from] anyhow::Error),
    /// Nobody may pull the programs from under a running agent.
    #[error("the agent is running at {}", .socket.display())]
    AgentRunning {
        /// Where it answers.
        socket: PathBuf,
    },
    /// An abbreviation may stand for several.
    #[error("{given} may be any {kind} of: {}", shortened(.found))]
    Ambiguous {
        /// Of what.
        kind: &'static str,
        /// What was given.
        given: String,
        /// What it may stand for.
        found: Vec<String>,
    },
    /// An abbreviation stands for nothing.
    #[error("no backend{} ends with {ending}", service.as_ref().map(|name| format!(" of {name}")).unwrap_or_default())]
    NobodyEnds {
        /// What was given.
        ending: String,
        /// Whose backends were looked at; none: all.
        service: Option<String>,
    },
    /// A drain was watched for as long as was asked.
    #[error("the deadline has passed: {flows} recorded flows are left, the last packet was {} ago", age(*.silence))]
    DrainDeadline {
        /// Recorded flows that are left.
        flows: u64,
        /// How long no packet has arrived.
        silence: Duration,
    },
    /// Somebody gives the backend flows again.
    #[error("{service} {backend} is drained no more: somebody has taken it back")]
    Undrained {
        /// The service.
        service: String,
        /// The backend.
        backend: IpAddr,
    },
    /// The agent has said that something is wrong; the screen shows it.
    #[error("the agent is not ready, or has problems")]
    Unwell,
    /// A check of the host has failed; the screen shows which.
    #[error("this host cannot be a balancer as it is")]
    Unfit,
    /// Somebody redirects what only a terminal can show.
    #[error("standard output is no terminal")]
    NoTerminal,
    /// Standard output failed.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
}

impl CliError {
    /// Says what is wrong and what to do, and gives the exit status.
    pub fn report(&self, to: &mut (impl Write + IsTerminal)) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        if matches!(self, Self::Unwell | Self::Unfit) {
            return ExitCode::from(UNWELL);
        }
        // Standard error is the last resort: there is nobody to tell that it failed.
        let _ = to.write_all(self.text(to.is_terminal()).as_bytes());
        ExitCode::FAILURE
    }

    /// The reader of a pipe has seen enough, as `head` does.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn text(&self, color: bool) -> String {
        let message = self.message(color);
        // A rendered error of the configuration brings its own headline.
        let headline = if message.starts_with("error: ") { "" } else { "error: " };
        let help = self.advice().map(|advice| format!("help: {advice}\n")).unwrap_or_default();
        format!("{headline}{}\n{help}", message.trim_end())
    }

    fn message(&self, color: bool) -> String {
        self.config().map_or_else(|| self.to_string(), |error| error.render(color))
    }

    /// An error of the configuration, also where an agent did not start because of one.
    fn config(&self) -> Option<&ConfigError> {
        match self {
            Self::Config(error) => Some(error),
            Self::Agent(error) => error.downcast_ref(),
            Self::Client(_)
            | Self::Packet(_)
            | Self::Capture(_)
            | Self::Archive(_)
            | Self::AgentRunning { .. }
            | Self::DrainDeadline { .. }
            | Self::Ambiguous { .. }
            | Self::NobodyEnds { .. }
            | Self::Undrained { .. }
            | Self::Unwell
            | Self::Unfit
            | Self::NoTerminal
            | Self::Output(_) => None,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.advice(),
            Self::NoTerminal => Some("for programs: meshlb status, services and backends, with -o json".to_owned()),
            Self::AgentRunning { .. } => Some("stop it first: systemctl stop meshlb".to_owned()),
            Self::DrainDeadline { .. } => Some(
                "it stays drained; wait on with the same command, or stop the backend and lose these flows"
                    .to_owned(),
            ),
            Self::Packet(_) => Some(
                "give --from CLIENT:PORT --to VIP:PORT, or --packet with digits or a capture of Ethernet frames"
                    .to_owned(),
            ),
            Self::Ambiguous { .. } => Some("write more of it".to_owned()),
            Self::NobodyEnds { .. } => Some("see: meshlb backends".to_owned()),
            Self::Archive(ArchiveError::Exists { .. }) => {
                Some("name another file, or replace it: --force".to_owned())
            }
            Self::Config(_)
            | Self::Archive(ArchiveError::Io { .. })
            | Self::Capture(_)
            | Self::Agent(_)
            | Self::Undrained { .. }
            | Self::Unwell
            | Self::Unfit
            | Self::Output(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ApiError;

    fn refusal(error: &str, advice: Option<&str>) -> CliError {
        let body = ApiError { error: error.into(), advice: advice.map(str::to_owned) };
        CliError::Client(ClientError::Refusal { status: 404, body })
    }

    #[test]
    fn an_error_says_what_is_wrong_and_what_to_do() {
        let error = refusal("there is no service \"wbe\"", Some("did you mean web? See: meshlb services"));
        let expected = "error: there is no service \"wbe\"\nhelp: did you mean web? See: meshlb services\n";
        assert_eq!(error.text(false), expected);
        assert_eq!(refusal("no", None).text(false), "error: no\n");
    }

    #[test]
    fn a_missing_socket_says_how_to_start_the_agent() {
        let error = CliError::Client(ClientError::NoSocket { socket: "/run/x.sock".into() });
        let expected = "error: no agent at /run/x.sock: there is no such socket\n\
            help: is the agent running? start it with: meshlb run --config FILE; or give --socket PATH\n";
        assert_eq!(error.text(false), expected);
    }

    #[test]
    fn a_rendered_error_keeps_its_headline() {
        assert_eq!(
            refusal("error: port is 0\n --> x.toml:3:1\n", None).text(false),
            "error: port is 0\n --> x.toml:3:1\n"
        );
    }

    #[test]
    fn a_cause_is_part_of_the_message() {
        let error = CliError::Agent(anyhow::anyhow!("no such device").context("cannot attach to eth7"));
        assert_eq!(error.text(false), "error: cannot attach to eth7: no such device\n");
    }

    #[test]
    fn a_broken_pipe_is_told_from_other_failures() {
        let is_quiet = |kind: io::ErrorKind| CliError::Output(kind.into()).is_broken_pipe();
        assert!(is_quiet(io::ErrorKind::BrokenPipe) && !is_quiet(io::ErrorKind::StorageFull));
    }
}
