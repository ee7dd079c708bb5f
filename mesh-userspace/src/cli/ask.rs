//! Commands that ask a running agent.

use std::io::Write;
use std::path::PathBuf;

use super::args::Ask;
use super::error::CliError;
use super::output::Output;
use super::{connect, screens};
use crate::api::Client;

/// Asks the agent at `socket` and prints its answer.
pub(super) async fn ask<W: Write>(
    question: Ask,
    socket: Option<PathBuf>,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let agent = Client::new(&connect::socket(socket))?;
    match question {
        Ask::Status => output.show(&agent.status().await?, screens::status),
        Ask::Services => output.show(&agent.services().await?, |list| screens::services(list)),
        Ask::Backends { service } => {
            output.show(&agent.backends(service.as_deref()).await?, |list| screens::backends(list))
        }
        Ask::Flows { limit } => output.show(&agent.flows(limit).await?, |list| screens::flows(list)),
        Ask::Reload => output.show(&agent.reload().await?, screens::reloaded),
        Ask::Drain(of) => output.show(&agent.drain(&of.service, of.backend).await?, screens::drained),
        Ask::Undrain(of) => output.show(&agent.undrain(&of.service, of.backend).await?, screens::drained),
    }
}
