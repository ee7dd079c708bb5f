//! What the operator, and backends themselves, say about backends.

use super::{
    command::{CommandError, Order},
    state::Agent,
};
use crate::{
    api::types::{DrainProgress, MaintenanceReport, OrderReport, SplitReport},
    config::{Config, Group, Service},
    events::{Happening, Kind},
    health::{self, Report},
    overrides::{Maintenance, Overrides, OverridesFile},
};
use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};
use tracing::{error, info};

/// What the operator ordered before the agent started; where it is lost, why.
pub(super) fn remembered(file: &OverridesFile, config: &Config) -> (Overrides, Option<String>) {
    match file.load(config) {
        Ok(mut overrides) => {
            // The configuration may have changed meanwhile.
            overrides.forget_missing(config);
            if overrides != Overrides::default() {
                info!("took over drains, weights, splits and maintenance from before");
            }
            (overrides, None)
        }
        Err(reason) => {
            error!(%reason, "drains, weights, splits and maintenance from before are lost");
            (
                Overrides::default(),
                Some(format!("drains, weights, splits and maintenance from before are lost: {reason}")),
            )
        }
    }
}

impl Agent {
    pub(super) fn order(
        &mut self,
        service: &str,
        backend: IpAddr,
        order: Order,
    ) -> Result<OrderReport, CommandError> {
        let key = self.find(service, backend)?;
        let changed = self.overrides.set(key, |is| match order {
            Order::Drain => is.drained = true,
            Order::Undrain => is.drained = false,
            Order::Weight(weight) => is.weight = weight,
        });
        if changed {
            info!(service, %backend, ?order, "the operator has ordered");
            let message = match order {
                Order::Drain => "was drained by the operator".to_owned(),
                Order::Undrain => "was taken back by the operator".to_owned(),
                Order::Weight(Some(weight)) => format!("got weight {weight} by the operator"),
                Order::Weight(None) => "got its configured weight back by the operator".to_owned(),
            };
            self.tell(vec![Happening::new(Kind::Order, message).of(service).at(backend)]);
            self.remember();
            self.steer();
        }
        let is = self.overrides.of(&key);
        Ok(OrderReport {
            service: service.to_owned(),
            backend: backend.to_string(),
            draining: is.drained,
            weight: is.weight.unwrap_or_else(|| self.configured_weight(&key)),
            is_configured_weight: is.weight.is_none(),
            forgotten: self.forgetful.clone(),
        })
    }

    pub(super) fn split(
        &mut self,
        service: &str,
        shares: Option<BTreeMap<String, u16>>,
    ) -> Result<SplitReport, CommandError> {
        let found = self.find_service(service)?.clone();
        let changed = match &shares {
            None => self.overrides.reset_split(found.key()),
            Some(shares) => {
                let shares = known_shares(&found, shares)?;
                let mut overrides = self.overrides.clone();
                let changed = overrides.order_split(found.key(), &shares);
                require_somebody(&found, &overrides)?;
                self.overrides = overrides;
                changed
            }
        };
        if changed {
            info!(service, ?shares, "the operator has ordered a split");
            let message = match &shares {
                Some(shares) => format!("was split by the operator: {}", listed(shares)),
                None => "got its configured split back by the operator".to_owned(),
            };
            self.tell(vec![Happening::new(Kind::Order, message).of(service)]);
            self.remember();
            self.steer();
        }
        Ok(SplitReport {
            service: service.to_owned(),
            groups: self.group_views(&found),
            is_configured_split: !self.overrides.has_split(found.key()),
            forgotten: self.forgetful.clone(),
        })
    }

    fn configured_weight(&self, key: &health::Key) -> u16 {
        let service = self.config.services.iter().find(|service| service.key() == key.service);
        let mut backends = service.into_iter().flat_map(|service| &service.backends);
        backends.find(|backend| backend.address == key.address).map_or(0, |backend| backend.weight)
    }

    pub(super) fn maintain(
        &mut self,
        backend: IpAddr,
        work: Option<Maintenance>,
    ) -> Result<MaintenanceReport, CommandError> {
        let services: Vec<_> =
            self.services_with(backend)?.into_iter().map(|service| service.name.clone()).collect();
        let (begins, reason) = (work.is_some(), work.as_ref().map(|work| work.reason.clone()));
        let changed = match work {
            Some(work) => self.overrides.begin_maintenance(backend, work),
            None => self.overrides.end_maintenance(backend),
        };
        if changed {
            info!(%backend, reason, begins, "maintenance");
            let message = match reason.as_deref() {
                None => "maintenance was ended by the operator".to_owned(),
                Some("") => "maintenance began".to_owned(),
                Some(reason) => format!("maintenance began: {reason}"),
            };
            self.tell(vec![Happening::new(Kind::Order, message).at(backend)]);
            self.remember();
            self.steer();
        }
        let forgotten = self.forgetful.clone();
        Ok(MaintenanceReport { backend: backend.to_string(), maintenance: begins, services, forgotten })
    }

    /// Ends maintenance whose time is over, and says whether there was any.
    pub(super) fn end_maintenance_in_time(&mut self) -> bool {
        let ended = self.overrides.expire(SystemTime::now());
        for backend in &ended {
            info!(%backend, "the time of maintenance is over");
        }
        let over =
            |backend: &IpAddr| Happening::new(Kind::Order, "the time of maintenance is over").at(*backend);
        self.tell(ended.iter().map(over).collect());
        if !ended.is_empty() {
            self.remember();
        }
        !ended.is_empty()
    }

    pub(super) fn remember(&mut self) {
        self.forgetful = self.overrides_file.save(&self.overrides).err().map(|reason| {
            error!(%reason, "drains, weights, splits and maintenance will be forgotten with the next start");
            format!("drains, weights, splits and maintenance will be forgotten with the next start: {reason}")
        });
    }

    pub(super) fn drain_progress(
        &mut self,
        service: &str,
        backend: IpAddr,
    ) -> Result<DrainProgress, CommandError> {
        let key = self.find(service, backend)?;
        let id = self.backend_id(&key);
        let flows = id.map_or(Ok(0), |id| self.reconciler.flows_of(id));
        let flows = flows.map_err(|error| CommandError::failed(error.to_string()))?;
        let (mut slots, mut leaving) = (0, 0);
        for slot in id.into_iter().flat_map(|_| self.slots_of(key.service)) {
            slots += u32::from(Some(slot.current()) == id);
            leaving += u32::from(Some(slot.current()) != id && Some(slot.untracked()) == id);
        }
        Ok(DrainProgress {
            service: service.to_owned(),
            backend: backend.to_string(),
            draining: self.overrides.is_drained(&key),
            slots,
            leaving,
            flows,
            packets: id.map_or(0, |id| self.counters(id).packets()),
        })
    }

    pub(super) fn heartbeat(
        &mut self,
        service: &str,
        backend: IpAddr,
        report: Report,
        load: Option<f64>,
    ) -> Result<(), CommandError> {
        let key = self.find(service, backend)?;
        self.inputs.report(&key, report, load).map_err(|_not_awaited| {
            CommandError::invalid(format!("service {service:?} does not wait for reports of its backends"))
                .advise("write `kind = \"heartbeat\"` in its [service.health], and reload")
        })
    }
}

/// Shares as they are written on the command line.
fn listed(shares: &BTreeMap<String, u16>) -> String {
    shares.iter().map(|(group, share)| format!("{group}={share}")).collect::<Vec<_>>().join(" ")
}

/// The groups that are meant.
fn known_shares(
    service: &Service,
    shares: &BTreeMap<String, u16>,
) -> Result<BTreeMap<Group, u16>, CommandError> {
    let name = &service.name;
    if service.split.is_empty() {
        let message = format!("service {name:?} has no split");
        let advice = "write [service.split] with a share for each group in the configuration, and reload";
        return Err(CommandError::invalid(message).advise(advice));
    }
    let known = |(group, share): (&String, &u16)| {
        let of = Group::named(group);
        if service.split.contains_key(&of) {
            return Ok((of, *share));
        }
        let groups: Vec<_> = service.split.keys().map(Group::name).collect();
        let message = format!("service {name:?} has no group {group:?} in its split");
        Err(CommandError::not_found(message).advise(format!("its groups are: {}", groups.join(", "))))
    };
    shares.iter().map(known).collect()
}

/// An order that leaves no group a share would stop the service.
fn require_somebody(service: &Service, overrides: &Overrides) -> Result<(), CommandError> {
    if overrides.ordered_split(service).values().any(|share| *share > 0) {
        return Ok(());
    }
    let message = format!("this leaves no group of service {:?} a share", service.name);
    Err(CommandError::invalid(message).advise("give at least one group a share above 0"))
}
