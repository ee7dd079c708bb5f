//! What the world says: probes and next hops, on watch channels.

use crate::{
    config::{Config, Health},
    health::{self, Prober, State, Verdict},
    nexthop::{Resolution, Resolver},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};
use tokio::sync::watch;

/// Longer than the kernel takes to find a neighbour.
const NEIGHBOURS: Duration = Duration::from_secs(3);

/// The agent's sources.
pub(super) struct Inputs {
    prober: Prober,
    resolver: Resolver,
    verdicts: watch::Receiver<BTreeMap<health::Key, Verdict>>,
    next_hops: watch::Receiver<BTreeMap<IpAddr, Resolution>>,
}

impl Inputs {
    /// Starts to probe and to resolve what a configuration names.
    pub(super) async fn start(config: &Config) -> anyhow::Result<Self> {
        let (verdicts_in, verdicts) = watch::channel(BTreeMap::new());
        let (next_hops_in, next_hops) = watch::channel(BTreeMap::new());
        let resolver = Resolver::start(next_hops_in).await?;
        let mut inputs = Self { prober: Prober::new(verdicts_in), resolver, verdicts, next_hops };
        inputs.follow(config);
        Ok(inputs)
    }

    /// Follows another configuration; what is in both is not disturbed.
    pub(super) fn follow(&mut self, config: &Config) {
        self.prober.update(&probed(config));
        let addresses = config.services.iter().flat_map(|service| &service.backends);
        self.resolver.want(addresses.map(|backend| backend.address).collect::<BTreeSet<_>>());
    }

    /// Waits until something changed.
    pub(super) async fn changed(&mut self) {
        // A source that ended says nothing any more; what it said last stays.
        tokio::select! {
            Ok(()) = self.verdicts.changed() => {}
            Ok(()) = self.next_hops.changed() => {}
            else => std::future::pending().await,
        }
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

    /// Whether everything has been asked and has answered once.
    pub(super) fn are_complete(&self, config: &Config) -> bool {
        let next_hops = self.next_hops();
        let resolved = |address: &IpAddr| matches!(next_hops.get(address), Some(Resolution::Resolved(_)));
        let verdicts = self.verdicts();
        let judged =
            |key: &health::Key| verdicts.get(key).is_some_and(|verdict| verdict.state != State::Unknown);
        let mut services = config.services.iter();
        services.all(|service| {
            let key = |address| health::Key { service: service.key(), address };
            let mut backends = service.backends.iter().map(|backend| backend.address);
            backends.all(|address| resolved(&address) && (service.health.is_none() || judged(&key(address))))
        })
    }

    /// How long the first answers may take.
    pub(super) fn patience(config: &Config) -> Duration {
        let timeouts =
            config.services.iter().filter_map(|service| service.health.as_ref()).map(|h| h.timeout);
        timeouts.max().unwrap_or_default() + NEIGHBOURS
    }
}

fn probed(config: &Config) -> BTreeMap<health::Key, Health> {
    let services = config.services.iter().filter_map(|service| Some((service, service.health.as_ref()?)));
    services
        .flat_map(|(service, health)| {
            let key = |address| health::Key { service: service.key(), address };
            service.backends.iter().map(move |backend| (key(backend.address), health.clone()))
        })
        .collect()
}
