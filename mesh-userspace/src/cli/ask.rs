//! Commands that ask a running agent.

use std::io::Write;
use std::path::PathBuf;

use super::args::{Ask, DrainArgs, FlowsArgs, GuardCommand, MaintenanceArgs, Weight};
use super::error::CliError;
use super::output::Output;
use super::{connect, drain, events, explain, names, screens, top, trace};
use crate::agent::flows::FlowFilter;
use crate::api::Client;
use crate::config::Admittance;

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
            let service = names::service_if_any(&agent, service.as_deref()).await?;
            output.show(&agent.backends(service.as_deref()).await?, |list| screens::backends(list))
        }
        Ask::Flows(args) => flows(&agent, args, output).await,
        Ask::Trace(args) => trace::trace(&agent, &args, output).await,
        Ask::Explain(args) => explain::explain(&agent, &args, output).await,
        Ask::Events(arguments) => events::events(&agent, &arguments, output).await,
        Ask::Reload { dry_run: false } => output.show(&agent.reload().await?, screens::reloaded),
        Ask::Reload { dry_run: true } => output.show(&agent.reload_plan().await?, screens::reloaded),
        Ask::Drain(DrainArgs { of, wait, deadline, quiet }) => {
            let of = names::target(&agent, &of).await?;
            if wait {
                return drain::drain_and_wait(&agent, &of, deadline, quiet, output).await;
            }
            output.show(&agent.drain(&of.service, of.backend).await?, screens::drained)
        }
        Ask::Undrain(of) => {
            let of = names::target(&agent, &of).await?;
            output.show(&agent.undrain(&of.service, of.backend).await?, screens::drained)
        }
        Ask::Weight { of, weight: Weight(weight) } => {
            let of = names::target(&agent, &of).await?;
            output.show(&agent.weight(&of.service, of.backend, weight).await?, screens::weighed)
        }
        Ask::Split { service, shares, reset } => {
            let service = names::service(&agent, &service).await?;
            let report = if reset {
                agent.reset_split(&service).await?
            } else {
                agent.split(&service, &shares.into_iter().collect()).await?
            };
            output.show(&report, screens::split)
        }
        Ask::Guard(command) => guard(&agent, command, output).await,
        Ask::Maintenance(MaintenanceArgs { backend, lasting, reason, end }) => {
            let backend = names::address(&agent, None, &backend).await?;
            let report = if end {
                agent.end_maintenance(backend).await?
            } else {
                agent.begin_maintenance(backend, reason, lasting).await?
            };
            output.show(&report, screens::maintained)
        }
        Ask::Heartbeat { of, failing, load } => {
            let of = names::target(&agent, &of).await?;
            output.show(&agent.heartbeat(&of.service, of.backend, failing, load).await?, screens::reported)
        }
    }
}

async fn flows<W: Write>(agent: &Client, args: FlowsArgs, output: &mut Output<W>) -> Result<(), CliError> {
    let FlowsArgs { of, state, by, limit } = args;
    let (service, backend) = names::whose(agent, &of).await?;
    let filter = FlowFilter { service, client: of.client, backend, state };
    match by {
        None => output.show(&agent.flows(&filter, limit).await?, |list| screens::flows(list)),
        Some(by) => {
            output.show(&agent.flow_counts(&filter, by, limit).await?, |list| screens::counts(list, by))
        }
    }
}

async fn guard<W: Write>(
    agent: &Client,
    command: GuardCommand,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    match command {
        GuardCommand::List { service } => {
            let service = names::service_if_any(agent, service.as_deref()).await?;
            let mut guards = agent.guards().await?;
            guards.retain(|guard| service.as_ref().is_none_or(|name| guard.service == *name));
            output.show(&guards, |guards| screens::guards(guards))
        }
        GuardCommand::Add { service, clients, allow, lasting } => {
            let service = names::service(agent, &service).await?;
            let admittance = if allow { Admittance::Allow } else { Admittance::Deny };
            output.show(&agent.guard(&service, clients, admittance, lasting).await?, screens::guard)
        }
        GuardCommand::Del { service, clients } => {
            let service = names::service(agent, &service).await?;
            output.show(&agent.forget_clients(&service, clients).await?, screens::guard)
        }
    }
}
