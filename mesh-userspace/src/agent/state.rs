//! All that the agent knows, and what it does when something changes.

use super::{
    clock,
    command::Command,
    explain::Bench,
    fleet::Fleet,
    floods::Floods,
    inputs::{Inputs, News},
    local::Local,
    log_flows::Logging,
    orders,
    shortage::Shortages,
    telemetry::Telemetry,
    telling::{Known, Memoir},
    trace::Watchers,
    watched::Watched,
};
use crate::{
    api::Readiness,
    config::{Config, OnExit, Source},
    dataplane::kernel::{Attached, Kernel},
    desired::{self, Desired, desired},
    discovery::{Combined, combine},
    durations,
    events::{self, Happening, Kind},
    health::{self, Correlator, Outliers},
    metrics::Reloads,
    overrides::{Overrides, OverridesFile},
    performance::Factors,
    reconcile::Reconciler,
    supervisor,
};
use anyhow::Context as _;
use nix::net::if_::if_nametoindex;
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

/// How often the flow table is looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// After this much silence the maps are read again.
const SILENCE: Duration = Duration::from_secs(60);

/// The agent.
pub(super) struct Agent {
    /// Where the configuration is.
    pub(super) watched: Watched,
    /// Why what is in the file now is not in force.
    pub(super) refused: Option<String>,
    /// Services that are defined elsewhere than in the file.
    pub(super) fleet: Fleet,
    /// What was in the file, with those services.
    pub(super) written: Config,
    /// The same, with the backends that were discovered.
    pub(super) config: Config,
    /// Which source backends are from; those that are missing are configured.
    pub(super) origins: BTreeMap<health::Key, String>,
    /// What explains packets, once somebody asked.
    pub(super) bench: Option<Bench>,
    pub(super) watchers: Watchers,
    /// What logs flows, if they are logged.
    pub(super) logging: Option<Logging>,
    /// Why they are not, though they should be.
    pub(super) unlogged: Option<String>,
    /// What tells a collector, if one is configured.
    pub(super) telemetry: Option<Telemetry>,
    /// What of the discovered is left out or overruled.
    pub(super) remarks: Vec<String>,
    pub(super) reconciler: Reconciler<Kernel>,
    pub(super) inputs: Inputs,
    /// Which failures have one cause.
    pub(super) correlator: Correlator,
    /// How often there was one.
    pub(super) incidents: u64,
    pub(super) desired: Desired,
    pub(super) overrides: Overrides,
    /// How far shares follow how backends do.
    pub(super) factors: Factors,
    /// Who has failed clients.
    pub(super) outliers: Outliers,
    /// The way to backends on this host.
    pub(super) local: Local,
    /// Where these survive the agent.
    pub(super) overrides_file: OverridesFile,
    /// Why they do not.
    pub(super) forgetful: Option<String>,
    /// What happened.
    pub(super) memoir: Memoir,
    pub(super) shortages: Shortages,
    pub(super) floods: Floods,
    pub(super) attached: Vec<Attached>,
    pub(super) reloads: Reloads,
    /// How long bringing the maps up to date took.
    pub(super) reconciles: durations::Outcomes,
    /// A hash of the configuration in force.
    pub(super) fingerprint: String,
    pub(super) started: Instant,
    readiness: watch::Sender<Readiness>,
    /// Until when the first answers of probes and next hops are waited for; `None` once tables are loaded.
    starting: Option<Instant>,
    swept: Instant,
    /// Whether somebody restarts it when it is silent.
    watched_over: bool,
    /// When the maps were last written or read.
    touched: Instant,
    /// Whether the last reconciliation failed.
    failed: bool,
}

impl Agent {
    pub(super) fn new(
        watched: Watched,
        (files, config): (Source, Config),
        reconciler: Reconciler<Kernel>,
        inputs: Inputs,
        readiness: watch::Sender<Readiness>,
    ) -> Self {
        let now = clock::now();
        let overrides_file = OverridesFile::within(config.agent.state_directory.clone());
        let memoir = Memoir::recall(config.agent.state_directory.clone());
        let (overrides, forgetful) = orders::remembered(&overrides_file, &config);
        let fingerprint = config.fingerprint();
        let mut agent = Self {
            starting: Some(now + Inputs::patience(&config)),
            correlator: Correlator::new(config.probing.correlated),
            incidents: 0,
            watched,
            refused: None,
            fleet: Fleet::new(files, &config),
            telemetry: config.otlp.as_ref().map(Telemetry::start),
            written: config.clone(),
            config,
            origins: BTreeMap::new(),
            bench: None,
            watchers: Watchers::default(),
            logging: None,
            unlogged: None,
            remarks: Vec::new(),
            reconciler,
            inputs,
            desired: Desired::default(),
            overrides,
            factors: Factors::default(),
            outliers: Outliers::default(),
            local: Local::default(),
            overrides_file,
            forgetful,
            memoir,
            shortages: Shortages::default(),
            floods: Floods::default(),
            attached: Vec::new(),
            reloads: Reloads::at_start(),
            reconciles: durations::Outcomes::default(),
            fingerprint,
            started: now,
            readiness,
            swept: now,
            watched_over: supervisor::is_watched(),
            touched: now,
            failed: false,
        };
        agent.inputs.ask_for_services(agent.written.services_from.as_ref());
        agent.inputs.ask(&agent.written);
        agent.take_in();
        agent.take_in_services();
        agent
    }

    /// Goes by a configuration from now on, and hears its new sources out.
    pub(super) fn go_by(&mut self, config: Config) {
        self.written = config;
        self.fingerprint = self.written.fingerprint();
        self.inputs.ask(&self.written);
        // Or a service whose backends move from the file to a source would have none in between. A start waits anyway.
        if self.is_ready() {
            self.inputs.hear_out();
        }
        self.take_in();
        if self.overrides.forget_missing(&self.config) {
            self.remember();
        }
        self.starting =
            self.starting.map(|deadline| deadline.max(self.started + Inputs::patience(&self.config)));
        self.steer();
    }

    /// Takes in what the sources say, and probes and resolves whom they know.
    pub(super) fn take_in(&mut self) {
        let Combined { config, origins, remarks } = combine(&self.written, &self.inputs.reports());
        for remark in remarks.iter().filter(|remark| !self.remarks.contains(remark)) {
            warn!(remark, "could not take in all that was discovered");
        }
        (self.config, self.origins, self.remarks) = (config, origins, remarks);
        self.trace_sources();
        self.tell_of_sources();
        self.inputs.follow(&self.config);
    }

    pub(super) const fn on_exit(&self) -> OnExit {
        self.config.agent.on_exit
    }

    pub(super) fn pin_path(&self) -> &Path {
        &self.config.agent.pin_path
    }

    /// The mark of sockets that ask VIPs.
    pub(super) const fn mark(&self) -> u32 {
        self.config.probing.mark
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.starting.is_none()
    }

    /// Sources, probes or next hops have news.
    pub(super) fn on_change(&mut self, news: News) -> anyhow::Result<()> {
        match news {
            News::Services => self.take_in_services(),
            News::Discovery => self.take_in(),
            News::State => {}
        }
        match self.starting {
            Some(_) if self.inputs.are_complete(&self.config) => self.go(),
            Some(_) => Ok(()),
            None => {
                self.reconcile();
                Ok(())
            }
        }
    }

    /// Time went by.
    pub(super) fn on_tick(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        if self.watched_over {
            supervisor::alive();
        }
        if let Some(deadline) = self.starting {
            return if now >= deadline || self.inputs.are_complete(&self.config) {
                self.go()
            } else {
                Ok(())
            };
        }
        self.watch_floods(now);
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.sweep(now);
            self.mend_local();
        }
        if now.saturating_duration_since(self.touched) >= SILENCE {
            self.reread(now);
        }
        let expired = self.end_maintenance_in_time() | self.end_client_orders_in_time();
        let is_due = self.reconciler.is_due(now) || !self.correlator.incidents().is_empty();
        let has_news = self.measure(now) | self.judge(now);
        if self.failed || expired || has_news || self.desired.is_starting() || is_due {
            self.reconcile();
        }
        self.attach_again();
        self.trace_no_more();
        self.log_flows_again();
        Ok(())
    }

    /// Attaches to interfaces that were removed and made again under the same name.
    fn attach_again(&mut self) {
        let mut happenings = Vec::new();
        let modes: Vec<_> = self.attached.iter().map(|it| self.mode_of(&it.interface)).collect();
        for (attached, mode) in self.attached.iter_mut().zip(modes) {
            let name = attached.interface.clone();
            if ifindex(&name).is_none_or(|now| now == attached.ifindex) {
                continue;
            }
            match self.reconciler.dataplane().attach(&name, mode) {
                Ok(again) => {
                    info!(interface = name, mode = %again.mode, "attached to an interface that came back");
                    let message = format!("{name} came back, attached to it in {} mode", again.mode);
                    happenings.push(Happening::new(Kind::Interface, message));
                    *attached = again;
                }
                Err(error) => {
                    error!(interface = name, %error, "could not attach to an interface that came back")
                }
            }
        }
        if happenings.is_empty() {
            return;
        }
        // They were attached to by the plain instance.
        if let Err(reason) = self.attach_instance() {
            error!(reason, "could not attach what tells of packets to an interface that came back");
        }
        self.tell(happenings);
    }

    /// Fills the tables for the first time, and only then takes packets.
    fn go(&mut self) -> anyhow::Result<()> {
        self.starting = None;
        self.sweep(clock::now());
        // What was before is not known, so that everything would be new.
        self.trace_verdicts(false);
        drop(self.update_desired());
        self.reconciler.reconcile(&self.desired, clock::now()).context("could not fill the tables")?;
        self.attach()?;
        self.log_flows();
        self.readiness.send_replace(Readiness::Ready);
        supervisor::ready(&self.occupation()).context("could not tell systemd")?;
        let services = self.desired.services.len();
        info!(services, "ready");
        let message = format!("version {} is ready with {services} services", env!("CARGO_PKG_VERSION"));
        self.tell(vec![Happening::new(Kind::Agent, message)]);
        Ok(())
    }

    fn attach(&mut self) -> anyhow::Result<()> {
        let agent = &self.config.agent;
        let kernel = self.reconciler.dataplane();
        for interface in &agent.interfaces {
            let attached = kernel.attach(interface, agent.xdp_mode)?;
            info!(interface, mode = %attached.mode, "attached");
            self.attached.push(attached);
        }
        let meant: Vec<String> = self.attached.iter().map(|attached| attached.interface.clone()).collect();
        Ok(kernel.keep_only(&meant)?)
    }

    /// Answers with what is new about services and backends.
    pub(super) fn update_desired(&mut self) -> Vec<Happening> {
        self.correlate();
        self.lead_to_local();
        let (verdicts, next_hops) = (self.inputs.verdicts(), self.inputs.next_hops());
        let in_force = self.in_force(&verdicts);
        let inputs = desired::Inputs {
            config: &self.config,
            verdicts: in_force.as_ref().unwrap_or(&verdicts),
            next_hops: &next_hops,
            overrides: &self.overrides,
            factors: &self.factors,
            outliers: &self.outliers,
            local: self.local.way,
            now: clock::now(),
        };
        let desired = desired(inputs);
        let known = Known { verdicts: &verdicts, next_hops: &next_hops, outliers: &self.outliers };
        let changes = events::changes(&self.desired, &desired, &known);
        for (key, service) in &desired.services {
            let before = self.desired.services.get(key).is_some_and(|service| service.panic);
            match (before, service.panic) {
                (false, true) => {
                    error!(service = service.name, "too few backends are healthy, using all of them")
                }
                (true, false) => info!(service = service.name, "enough backends are healthy again"),
                (false, false) | (true, true) => {}
            }
        }
        self.desired = desired;
        changes
    }

    /// Makes the maps what they should be now; what fails is tried again with the next tick.
    pub(super) fn reconcile(&mut self) {
        self.trace_verdicts(true);
        let changes = self.update_desired();
        let now = clock::now();
        let done = self.reconciler.reconcile(&self.desired, now);
        match &done {
            Ok(0) => {}
            Ok(ops) => {
                self.touched = now;
                self.rename_flows();
                info!(ops, took = ?now.elapsed(), "brought the maps up to date");
            }
            Err(error) => error!(%error, "could not bring the maps up to date, trying again"),
        }
        self.failed = done.is_err();
        self.reconciles.observe(done.is_ok(), now.elapsed());
        self.tell(changes);
        self.trace_reconciled(now, &done);
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        if let Err(error) = self.reconciler.sweep(&self.config, now) {
            error!(%error, "could not look through the flow table");
        }
        self.watch_shortages(now);
    }

    fn reread(&mut self, now: Instant) {
        self.touched = now;
        match self.reconciler.reread(now) {
            Ok(()) => self.reconcile(),
            Err(error) => error!(%error, "could not read the maps again"),
        }
    }

    /// Carries out a command. A sender that gave up is ignored.
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Status(reply) => answer(reply, self.status()),
            Command::Services(reply) => answer(reply, self.service_views()),
            Command::Backends(reply) => answer(reply, self.backend_views()),
            Command::Events { question, reply } => answer(reply, self.memoir.answer(&question)),
            Command::Flows { filter, limit, reply } => answer(reply, self.flow_views(&filter, limit)),
            Command::FlowCounts { filter, by, limit, reply } => {
                answer(reply, self.flow_counts(&filter, by, limit));
            }
            Command::Bench { interface, reply } => answer(reply, self.bench(interface.as_deref())),
            Command::Watch { wanted, reply } => answer(reply, self.admit(&wanted)),
            Command::Trace { tracer, reply } => answer(reply, self.trace_by(*tracer)),
            Command::Names(reply) => answer(reply, self.names()),
            Command::TraceNoMore(reply) => {
                self.trace_no_more();
                answer(reply, ());
            }
            Command::Explain { case, reply } => answer(reply, self.account(&case)),
            Command::Reload { dry_run: false, reply } => answer(reply, self.reload()),
            Command::Reload { dry_run: true, reply } => answer(reply, self.reload_plan()),
            Command::Order { service, backend, order, reply } => {
                answer(reply, self.order(&service, backend, order));
            }
            Command::Split { service, shares, reply } => answer(reply, self.split(&service, shares)),
            Command::Guards(reply) => answer(reply, self.guard_views()),
            Command::Guard { service, clients, order, reply } => {
                answer(reply, self.guard(&service, clients, order));
            }
            Command::Maintain { backend, work, reply } => answer(reply, self.maintain(backend, work)),
            Command::DrainProgress { service, backend, reply } => {
                answer(reply, self.drain_progress(&service, backend));
            }
            Command::Heartbeat { service, backend, report, load, reply } => {
                answer(reply, self.heartbeat(&service, backend, report, load));
            }
            Command::Metrics(reply) => answer(reply, self.snapshot()),
        }
    }

    /// Acts on an order of the operator, if the tables are loaded already.
    pub(super) fn steer(&mut self) {
        if self.is_ready() {
            self.reconcile();
        }
    }
}

/// The index of an interface of this name, if there is one.
pub(super) fn ifindex(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    // Whoever asked may be gone.
    drop(reply.send(answer));
}
