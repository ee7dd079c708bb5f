//! The agent: starts everything, and then is one loop that owns all state.
//!
//! Architecture invariant: whatever happens, packets keep flowing: the loop changes the kernel's maps but is not
//! needed by them, and ends without touching them unless it is told to detach.

mod clock;
pub mod command;
mod correlation;
pub mod explain;
mod finding;
mod fleet;
mod floods;
pub mod flows;
mod guarding;
mod inputs;
mod local;
mod log_flows;
mod measure;
mod orders;
mod outliers;
mod reload;
mod shortage;
mod state;
mod telemetry;
mod telling;
pub mod trace;
mod views;
mod watched;

pub use command::{Command, CommandError};

use crate::{
    api::{self, AgentHandle, ApiSocket, Readiness},
    config::{Config, OnExit, Source},
    dataplane::kernel::{Choices, Kernel, Pins},
    events::{Happening, Kind},
    health, local as local_way, logging, metrics, privileges,
    reconcile::Reconciler,
    supervisor, web,
};
use anyhow::Context as _;
use inputs::Inputs;
use state::Agent;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use watched::Watched;

/// Commands that may wait for the loop.
const COMMANDS: usize = 64;

/// How often the loop looks at what time alone changes.
const TICK: Duration = Duration::from_secs(1);

/// An agent that has what it needs and no privilege beyond that, and has not begun.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    source: Source,
    config: Config,
}

/// Reads the configuration in a file, does what takes privileges that the agent does not keep, and gives these up. To be
/// called while the process has one thread.
///
/// # Errors
///
/// The configuration is invalid, or the kernel refuses.
pub fn prepare(path: &Path) -> anyhow::Result<Prepared> {
    let source = Source::read(path)?;
    let config = source.parse()?;
    Pins::mount_below(&config.agent.pin_path)?;
    privileges::keep(privileges::of_agent(config.metrics.listen.into_iter().chain(config.web.listen)))?;
    Ok(Prepared { path: path.to_owned(), source, config })
}

/// Runs the agent until a signal ends it.
///
/// # Errors
///
/// Another agent runs, or the kernel refuses.
pub async fn run(Prepared { path, source, config }: Prepared) -> anyhow::Result<()> {
    logging::init(&config.log)?;
    check_interfaces(&source, &config)?;
    let socket = ApiSocket::bind(&config.api.socket)?;
    let (commands, orders) = mpsc::channel(COMMANDS);
    let (readiness, is_ready) = watch::channel(Readiness::NotReady("the agent is starting".into()));
    let handle = AgentHandle::new(commands, is_ready);
    let faces = CancellationToken::new();
    let _stop_faces = faces.clone().drop_guard();
    serve_metrics(&config, &handle, &faces).await?;
    serve_web(&config, &handle, &faces).await?;
    tokio::spawn(api::serve(socket, handle, faces));

    let reconciler = block_in_place(|| load(&config))?;
    let inputs = Inputs::start(&config).await?;
    let watched = Watched::new(path, &config, &source);
    let agent = Agent::new(watched, (source, config), reconciler, inputs, readiness);
    watch_over(agent, orders).await
}

/// Removes what an agent left in the kernel: links, and so the programs, then the maps; devices; rules of policy routing.
///
/// # Errors
///
/// Something cannot be removed.
pub fn detach(pin_path: &Path) -> anyhow::Result<()> {
    if let Some(pins) = Pins::existing(pin_path)? {
        pins.remove()?;
    }
    local_way::remove()?;
    health::remove_rules(None)
}

fn check_interfaces(source: &Source, config: &Config) -> anyhow::Result<()> {
    for interface in &config.agent.interfaces {
        if state::ifindex(interface).is_none() {
            let message = format!("there is no interface {interface:?} on this host");
            return Err(source.interface_error(interface, message, "see the names with: ip link").into());
        }
    }
    Ok(())
}

async fn serve_metrics(
    config: &Config,
    handle: &AgentHandle,
    faces: &CancellationToken,
) -> anyhow::Result<()> {
    if let Some(listen) = config.metrics.listen {
        let listener = metrics::bind(listen).await?;
        tokio::spawn(metrics::serve(listener, handle.clone(), faces.clone()));
    }
    Ok(())
}

async fn serve_web(config: &Config, handle: &AgentHandle, faces: &CancellationToken) -> anyhow::Result<()> {
    if let Some(listen) = config.web.listen {
        let door = web::Door::open(listen, config.web.token_file.as_deref()).await?;
        tokio::spawn(web::serve(door, handle.clone(), faces.clone()));
    }
    Ok(())
}

fn load(config: &Config) -> anyhow::Result<Reconciler<Kernel>> {
    let limits = config.limits;
    let agent = &config.agent;
    let choices = Choices {
        seed: agent.seed,
        answer_echo: agent.answer_echo,
        next_program: agent.next_program.clone(),
    };
    let kernel = Kernel::load(Pins::open(&agent.pin_path)?, limits.into(), &choices)?;
    let loaded = kernel.loaded();
    for program in &loaded.programs {
        let instructions = program.verified_instructions.unwrap_or(0);
        info!(program = program.name, instructions, took = ?program.took, "loaded a program");
    }
    info!(adopted = loaded.adopted, "the maps are ready");
    Ok(Reconciler::new(kernel, limits, clock::now())?)
}

/// The loop.
async fn watch_over(mut agent: Agent, mut orders: mpsc::Receiver<Command>) -> anyhow::Result<()> {
    let [mut terminate, mut interrupt, mut hangup] =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let terminate = terminate.as_mut().map_err(|error| anyhow::anyhow!("no SIGTERM: {error}"))?;
    let interrupt = interrupt.as_mut().map_err(|error| anyhow::anyhow!("no SIGINT: {error}"))?;
    let hangup = hangup.as_mut().map_err(|error| anyhow::anyhow!("no SIGHUP: {error}"))?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let end = tokio::select! {
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
            Some(command) = orders.recv() => { block_in_place(|| agent.obey(command)); false }
            _ = hangup.recv() => {
                if let Err(error) = block_in_place(|| agent.reload()) {
                    warn!(%error, "did not reload, the configuration before stays in force");
                }
                false
            }
            () = agent.watched.changed() => { block_in_place(|| agent.reload_changed()); false }
            news = agent.inputs.changed() => { block_in_place(|| agent.on_change(news))?; false }
            _ = tick.tick() => { block_in_place(|| agent.on_tick())?; false }
        };
        if end {
            return block_in_place(|| finish(&mut agent));
        }
    }
}

fn finish(agent: &mut Agent) -> anyhow::Result<()> {
    supervisor::stopping();
    agent.stop_tracing();
    agent.log_no_more();
    agent.tell(vec![Happening::new(Kind::Agent, "ended")]);
    agent.tell_no_more();
    if let Err(error) = health::remove_rules(Some(agent.mark())) {
        warn!(%error, "could not remove the rules for probes to VIPs");
    }
    match agent.on_exit() {
        OnExit::Keep => info!("ended; the programs stay attached and packets keep flowing"),
        OnExit::Detach => {
            detach(agent.pin_path()).context("could not detach")?;
            info!("ended and detached");
        }
    }
    Ok(())
}
