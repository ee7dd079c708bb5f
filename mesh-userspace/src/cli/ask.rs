//! Commands that ask a running agent.

use std::io::Write;
use std::path::PathBuf;

use super::args::{Ask, DrainArgs, MaintenanceArgs, Weight};
use super::error::CliError;
use super::output::Output;
use super::{connect, drain, events, explain, screens, top, trace};
use crate::api::Client;

/// Asks the agent at `socket` and prints its answer.
pub(super) async fn ask<W: Write>(
    question: Ask,
    socket: Option<PathBuf>,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let agent = Client::new(&connect::socket(socket))?;
    match question {
        Ask::Status => {
            let status = agent.status().await?;
            output.show(&status, screens::status)?;
            if status.ready && status.problems.is_empty() { Ok(()) } else { Err(CliError::Unwell) }
        }
        Ask::Top => top::top(&agent).await,
        Ask::Services => output.show(&agent.services().await?, |list| screens::services(list)),
        Ask::Backends { service } => {
            output.show(&agent.backends(service.as_deref()).await?, |list| screens::backends(list))
        }
        Ask::Flows { limit } => output.show(&agent.flows(limit).await?, |list| screens::flows(list)),
        Ask::Trace(args) => trace::trace(&agent, &args, output).await,
        Ask::Explain(args) => explain::explain(&agent, &args, output).await,
        Ask::Events(arguments) => events::events(&agent, &arguments, output).await,
        Ask::Reload { dry_run: false } => output.show(&agent.reload().await?, screens::reloaded),
        Ask::Reload { dry_run: true } => output.show(&agent.reload_plan().await?, screens::reloaded),
        Ask::Drain(DrainArgs { of, wait: false, .. }) => {
            output.show(&agent.drain(&of.service, of.backend).await?, screens::drained)
        }
        Ask::Drain(DrainArgs { of, wait: true, deadline, quiet }) => {
            drain::drain_and_wait(&agent, &of, deadline, quiet, output).await
        }
        Ask::Undrain(of) => output.show(&agent.undrain(&of.service, of.backend).await?, screens::drained),
        Ask::Weight { of, weight: Weight(weight) } => {
            output.show(&agent.weight(&of.service, of.backend, weight).await?, screens::weighed)
        }
        Ask::Split { service, reset: true, .. } => {
            output.show(&agent.reset_split(&service).await?, screens::split)
        }
        Ask::Split { service, shares, reset: false } => {
            output.show(&agent.split(&service, &shares.into_iter().collect()).await?, screens::split)
        }
        Ask::Maintenance(MaintenanceArgs { backend, end: true, .. }) => {
            output.show(&agent.end_maintenance(backend).await?, screens::maintained)
        }
        Ask::Maintenance(MaintenanceArgs { backend, lasting, reason, end: false }) => {
            output.show(&agent.begin_maintenance(backend, reason, lasting).await?, screens::maintained)
        }
        Ask::Heartbeat { of, failing, load } => {
            output.show(&agent.heartbeat(&of.service, of.backend, failing, load).await?, screens::reported)
        }
    }
}
