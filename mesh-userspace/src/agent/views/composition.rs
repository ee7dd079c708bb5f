//! What groups and tiers of a service take of its new flows.

use crate::{
    agent::state::Agent,
    api::types::{GroupView, TierView},
    config::{self, Group},
    desired::{Backend, Role, Service},
};
use std::collections::BTreeMap;

impl Agent {
    /// The groups of a service, if there is a split.
    pub(in crate::agent) fn group_views(&self, service: &config::Service) -> Vec<GroupView> {
        let parts = Parts::of(self.desired.services.get(&service.key()));
        let shares = self.overrides.split(service);
        let view = |(group, share): (&Group, &u16)| {
            let Sum { percent, backends, up } = parts.sum(service, |backend| backend.group == *group);
            let configured_share = service.split.get(group).copied().unwrap_or(0);
            GroupView { name: group.to_string(), share: *share, configured_share, percent, backends, up }
        };
        shares.iter().map(view).collect()
    }

    /// The tiers of a service, if there is more than one.
    pub(super) fn tier_views(&self, service: &config::Service) -> Vec<TierView> {
        let parts = Parts::of(self.desired.services.get(&service.key()));
        let tiers: BTreeMap<u16, ()> =
            service.backends.iter().map(|backend| (backend.priority, ())).collect();
        if tiers.len() < 2 {
            return Vec::new();
        }
        let view = |priority: u16| {
            let Sum { percent, backends, up } = parts.sum(service, |backend| backend.priority == priority);
            TierView { priority, percent, backends, up }
        };
        tiers.into_keys().map(view).collect()
    }
}

/// What backends take of a service's new flows.
pub(super) struct Parts<'a> {
    desired: Option<&'a Service>,
    all: f64,
}

/// What some backends take together.
struct Sum {
    percent: f64,
    backends: u32,
    up: u32,
}

impl<'a> Parts<'a> {
    pub(super) fn of(desired: Option<&'a Service>) -> Self {
        let backends = desired.into_iter().flat_map(|service| service.backends.values());
        Self { desired, all: backends.map(|backend| f64::from(backend.portion)).sum() }
    }

    /// The part of one backend, in per cent.
    pub(super) fn percent(&self, backend: &Backend) -> f64 {
        if self.all > 0.0 { f64::from(backend.portion) * 100.0 / self.all } else { 0.0 }
    }

    fn sum(&self, service: &config::Service, of: impl Fn(&config::Backend) -> bool) -> Sum {
        let mut sum = Sum { percent: 0.0, backends: 0, up: 0 };
        for backend in service.backends.iter().filter(|backend| of(backend)) {
            let known = self.desired.and_then(|desired| desired.backends.get(&backend.address));
            sum.backends += 1;
            sum.up += u32::from(known.is_some_and(|known| known.portion > 0));
            sum.percent += known.map_or(0.0, |known| self.percent(known));
        }
        sum
    }
}

/// Why a backend that could take flows takes none.
pub(super) fn held_back(
    backend: &config::Backend,
    desired: Option<&Backend>,
    split: &BTreeMap<Group, u16>,
) -> Option<String> {
    match desired?.role {
        Role::Standby => Some("higher tiers take all flows".to_owned()),
        Role::Draining if split.get(&backend.group) == Some(&0) => {
            Some(format!("its group {} has the share 0", backend.group))
        }
        Role::Active | Role::Draining | Role::Ejected | Role::Unknown | Role::Down => None,
    }
}
