//! What the world says: probes and next hops, on watch channels.

use crate::{
    config::{Backend, Config, Definitions, Health, ProbeKind, ProbeTo, Service, ServiceKey, ServicesFrom},
    delivery::Delivery,
    discovery::{self, Reports, Sources},
    durations::Outcomes,
    health::{self, NotAwaited, Paths, Prober, Report, State, Verdict},
    nexthop::{Resolution, Resolver},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch, time::timeout};
use tracing::warn;

/// How long backends may take to report for the first time before packets are taken without them.
const FIRST_REPORT: Duration = Duration::from_secs(30);

/// Longer than the kernel takes to find a neighbour.
const NEIGHBOURS: Duration = Duration::from_secs(3);

/// How long the agent waits for the first words of its sources when it starts.
const SOURCES: Duration = Duration::from_secs(5);

/// How long a reload waits for the first words of sources that are new in it.
const NEW_SOURCES: Duration = Duration::from_secs(1);

/// The agent's sources.
pub(super) struct Inputs {
    sources: Sources,
    services: Sources<ServicesFrom>,
    paths: Paths,
    prober: Prober,
    resolver: Resolver,
    reports: watch::Receiver<Reports>,
    definitions: watch::Receiver<Reports<Definitions>>,
    verdicts: watch::Receiver<BTreeMap<health::Key, Verdict>>,
    next_hops: watch::Receiver<BTreeMap<IpAddr, Resolution>>,
}

/// What there is news of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Which services there are.
    Services,
    /// Who is there.
    Discovery,
    /// How they do, and how to reach them.
    State,
}

impl Inputs {
    /// Follows nothing yet.
    pub(super) async fn start(config: &Config) -> anyhow::Result<Self> {
        let (reports_in, reports) = watch::channel(Reports::new());
        let (definitions_in, definitions) = watch::channel(Reports::new());
        let (verdicts_in, verdicts) = watch::channel(BTreeMap::new());
        let (next_hops_in, next_hops) = watch::channel(BTreeMap::new());
        let resolver = Resolver::start(next_hops_in).await?;
        let at_once = usize::try_from(config.probing.at_once).unwrap_or(usize::MAX);
        let sources = Sources::new(reports_in, &config.agent.state_directory);
        let services = Sources::new(definitions_in, &config.agent.state_directory);
        let paths = Paths::new(config.probing.mark, next_hops.clone());
        let prober = Prober::new(verdicts_in, at_once, paths.clone());
        Ok(Self { sources, services, paths, prober, resolver, reports, definitions, verdicts, next_hops })
    }

    /// Asks the sources of a configuration; those that were asked before are not disturbed.
    pub(super) fn ask(&mut self, config: &Config) {
        let discovery = config.services.iter().flat_map(|service| &service.discovery);
        self.sources.update(discovery.map(|discovery| &discovery.source));
    }

    /// Asks where services are defined. A source that was asked before is not disturbed.
    pub(super) fn ask_for_services(&mut self, from: Option<&ServicesFrom>) {
        self.services.update(from.into_iter());
    }

    /// Waits a little for the first words of sources that are new. Blocks its thread.
    pub(super) fn hear_out(&mut self) {
        hear(&mut self.reports);
    }

    /// The same of where services are defined.
    pub(super) fn hear_of_services(&mut self) {
        hear(&mut self.definitions);
    }

    /// Probes and resolves all backends of a configuration; what was in the one before is not disturbed.
    pub(super) fn follow(&mut self, config: &Config) {
        self.paths.deliver(deliveries(config));
        self.prober.update(&probed(config));
        let addresses = config.services.iter().flat_map(|service| &service.backends);
        self.resolver.want(addresses.map(|backend| backend.address).collect::<BTreeSet<_>>());
    }

    /// Waits until something changed.
    pub(super) async fn changed(&mut self) -> News {
        // A source that ended says nothing any more; what it said last stays.
        tokio::select! {
            Ok(()) = self.definitions.changed() => News::Services,
            Ok(()) = self.reports.changed() => News::Discovery,
            Ok(()) = self.verdicts.changed() => News::State,
            Ok(()) = self.next_hops.changed() => News::State,
            else => std::future::pending().await,
        }
    }

    pub(super) fn reports(&self) -> watch::Ref<'_, Reports> {
        self.reports.borrow()
    }

    pub(super) fn definitions(&self) -> watch::Ref<'_, Reports<Definitions>> {
        self.definitions.borrow()
    }

    pub(super) fn verdicts(&self) -> watch::Ref<'_, BTreeMap<health::Key, Verdict>> {
        self.verdicts.borrow()
    }

    pub(super) fn next_hops(&self) -> watch::Ref<'_, BTreeMap<IpAddr, Resolution>> {
        self.next_hops.borrow()
    }

    pub(super) fn latencies(&self) -> BTreeMap<health::Key, Duration> {
        self.prober.latencies()
    }

    /// How long the probes of each service took.
    pub(super) fn probe_durations(&self) -> BTreeMap<ServiceKey, Outcomes> {
        self.prober.durations()
    }

    pub(super) fn loads(&self) -> BTreeMap<health::Key, f64> {
        self.prober.loads()
    }

    /// Whether everything has been asked and has answered once.
    pub(super) fn are_complete(&self, config: &Config) -> bool {
        let next_hops = self.next_hops();
        let resolved = |address: &IpAddr| {
            let found = next_hops.get(address);
            found.is_some_and(|it| it.is_local() || matches!(it, Resolution::Resolved(_)))
        };
        let verdicts = self.verdicts();
        let judged =
            |key: &health::Key| verdicts.get(key).is_some_and(|verdict| verdict.state != State::Unknown);
        let mut services = config.services.iter();
        self.definitions().values().all(discovery::Report::is_settled)
            && self.reports().values().all(discovery::Report::is_settled)
            && services.all(|service| {
                let key = |address| health::Key { service: service.key(), address };
                let mut backends = service.backends.iter().map(|backend| backend.address);
                backends
                    .all(|address| resolved(&address) && (service.health.is_none() || judged(&key(address))))
            })
    }

    /// How long the first answers may take.
    pub(super) fn patience(config: &Config) -> Duration {
        let timeouts = config.services.iter().filter_map(|service| service.health.as_ref()).map(first_answer);
        let has_sources = config.services_from.is_some()
            || config.services.iter().any(|service| !service.discovery.is_empty());
        let sources = if has_sources { SOURCES } else { Duration::ZERO };
        sources + timeouts.max().unwrap_or_default() + NEIGHBOURS
    }

    /// Takes what a backend reports of itself, and its load if it says that.
    pub(super) fn report(
        &self,
        key: &health::Key,
        report: Report,
        load: Option<f64>,
    ) -> Result<(), NotAwaited> {
        self.prober.report(key, report, load)
    }
}

/// Waits a little until all have answered.
fn hear<W>(reports: &mut watch::Receiver<Reports<W>>) {
    let answered = |reports: &Reports<W>| reports.values().all(discovery::Report::has_answered);
    let heard = async { timeout(NEW_SOURCES, reports.wait_for(answered)).await.map(drop) };
    if Handle::current().block_on(heard).is_err() {
        warn!(waited = ?NEW_SOURCES, "went on without the first words of all sources");
    }
}

/// How packets reach the backends whose VIPs are asked.
fn deliveries(config: &Config) -> BTreeMap<health::Key, Delivery> {
    let asks = |service: &&Service| service.health.as_ref().is_some_and(|health| health.to == ProbeTo::Vip);
    let services = config.services.iter().filter(asks);
    services
        .flat_map(|service| {
            let delivery = Delivery::of(service, config.agent.outer_source);
            let key = |address| health::Key { service: service.key(), address };
            service.backends.iter().map(move |backend| (key(backend.address), delivery))
        })
        .collect()
}

fn probed(config: &Config) -> BTreeMap<health::Key, Arc<Health>> {
    let services = config.services.iter().filter_map(|service| Some((service, service.health.as_ref()?)));
    services
        .flat_map(|(service, health)| {
            let shared = Arc::new(health.clone());
            let usual = service.nat.as_ref().and_then(|nat| nat.port);
            let health_of = move |backend: &Backend| {
                // Few backends get packets at ports of their own.
                let own = backend.port.or(usual).filter(|_| shared.port.is_none());
                own.map_or_else(
                    || Arc::clone(&shared),
                    |port| Arc::new(Health { port: Some(port), ..(*shared).clone() }),
                )
            };
            let key = |address| health::Key { service: service.key(), address };
            service.backends.iter().map(move |backend| (key(backend.address), health_of(backend)))
        })
        .collect()
}

/// How long the first answer of a probe, or a report, may take.
fn first_answer(health: &Health) -> Duration {
    match health.kind {
        ProbeKind::Heartbeat { ttl } => ttl.min(FIRST_REPORT),
        ProbeKind::Tcp
        | ProbeKind::Http(_)
        | ProbeKind::Grpc(_)
        | ProbeKind::Udp(_)
        | ProbeKind::Dns(_)
        | ProbeKind::Icmp
        | ProbeKind::Command(..) => health.timeout,
    }
}
