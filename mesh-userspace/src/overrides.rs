//! What the operator wants other than the configuration: drains, weights, maintenance, splits. Pure, but for the file that
//! makes it survive the agent.
//!
//! Invariant: an order stands until it is taken back, its time is over, or its service or backend leaves the
//! configuration. A backend that sources may name again has not left it.

mod file;

pub use file::{OverridesFile, StateError};

use crate::{
    config::{Admittance, Config, Group, Service, ServiceKey},
    guard::Guard,
    health,
};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

/// Everything that the operator has ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    backends: BTreeMap<health::Key, Override>,
    maintenance: BTreeMap<IpAddr, Maintenance>,
    /// Shares of groups instead of those that are configured.
    splits: BTreeMap<ServiceKey, BTreeMap<Group, u16>>,
    /// What becomes of clients, by their prefixes.
    clients: BTreeMap<ServiceKey, BTreeMap<IpNet, ClientOrder>>,
}

/// What is ordered about clients of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOrder {
    /// What becomes of them.
    pub admittance: Admittance,
    /// When that is over; `None`: when somebody says so.
    pub until: Option<SystemTime>,
}

/// What is ordered for a backend of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Whether it takes no new flows.
    pub drained: bool,
    /// Its weight instead of the configured one.
    pub weight: Option<u16>,
}

/// Work on a host: all backends there are drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Why, for people.
    pub reason: String,
    /// When it is over; `None`: when somebody says so.
    pub until: Option<SystemTime>,
}

impl Overrides {
    /// What is ordered for a backend.
    #[must_use]
    pub fn of(&self, key: &health::Key) -> Override {
        self.backends.get(key).copied().unwrap_or_default()
    }

    /// Work on the host of a backend.
    #[must_use]
    pub fn maintenance(&self, address: IpAddr) -> Option<&Maintenance> {
        self.maintenance.get(&address)
    }

    /// Whether a backend takes no new flows, by whichever order.
    #[must_use]
    pub fn is_drained(&self, key: &health::Key) -> bool {
        self.of(key).drained || self.maintenance.contains_key(&key.address)
    }

    /// The shares of a service's groups: those that are ordered, else as configured; all as configured, if the groups that
    /// there still are would have none.
    #[must_use]
    pub fn split(&self, service: &Service) -> BTreeMap<Group, u16> {
        let split = self.ordered_split(service);
        if split.values().all(|share| *share == 0) { service.split.clone() } else { split }
    }

    /// The same, also if nobody has a share.
    #[must_use]
    pub fn ordered_split(&self, service: &Service) -> BTreeMap<Group, u16> {
        let ordered = self.splits.get(&service.key());
        let share = |(group, share): (&Group, &u16)| {
            (group.clone(), ordered.and_then(|ordered| ordered.get(group)).copied().unwrap_or(*share))
        };
        service.split.iter().map(share).collect()
    }

    /// Whom a service serves, if not everybody: as it is configured, and what is ordered beside that or instead.
    #[must_use]
    pub fn guard(&self, service: &Service) -> Option<Guard> {
        let ordered = self.ordered_clients(service.key());
        let configured = service.guard.clone().or_else(|| (!ordered.is_empty()).then(Arc::default))?;
        let ordered = ordered.iter().map(|(net, order)| (*net, order.admittance)).collect();
        Some(Guard { configured, ordered })
    }

    /// What is ordered about clients of a service.
    #[must_use]
    pub fn ordered_clients(&self, service: ServiceKey) -> &BTreeMap<IpNet, ClientOrder> {
        static NONE: BTreeMap<IpNet, ClientOrder> = BTreeMap::new();
        self.clients.get(&service).unwrap_or(&NONE)
    }

    /// Orders what becomes of clients of a service, and answers whether that is different.
    pub fn order_clients(&mut self, service: ServiceKey, net: IpNet, order: ClientOrder) -> bool {
        self.clients.entry(service).or_default().insert(net, order) != Some(order)
    }

    /// Takes back what is ordered about clients, and answers whether there was anything.
    pub fn forget_clients(&mut self, service: ServiceKey, net: IpNet) -> bool {
        let ordered = self.clients.get_mut(&service);
        let was_there = ordered.is_some_and(|ordered| ordered.remove(&net).is_some());
        self.clients.retain(|_, ordered| !ordered.is_empty());
        was_there
    }

    /// Takes back what is ordered about clients for a time that is over, and answers of which services.
    pub fn expire_clients(&mut self, now: SystemTime) -> Vec<(ServiceKey, IpNet)> {
        let mut over = Vec::new();
        for (service, ordered) in &mut self.clients {
            let gone = ordered.extract_if(.., |_, order| order.until.is_some_and(|until| until <= now));
            over.extend(gone.map(|(net, _)| (*service, net)));
        }
        self.clients.retain(|_, ordered| !ordered.is_empty());
        over
    }

    /// Whether shares of a service's groups are ordered.
    #[must_use]
    pub fn has_split(&self, service: ServiceKey) -> bool {
        self.splits.contains_key(&service)
    }

    /// Orders shares of some groups beside those that are ordered already, and answers whether anything is different.
    pub fn order_split(&mut self, service: ServiceKey, shares: &BTreeMap<Group, u16>) -> bool {
        let ordered = self.splits.entry(service).or_default();
        let before = ordered.clone();
        ordered.extend(shares.iter().map(|(group, share)| (group.clone(), *share)));
        *ordered != before
    }

    /// Takes back what is ordered about a service's groups, and answers whether there was anything.
    pub fn reset_split(&mut self, service: ServiceKey) -> bool {
        self.splits.remove(&service).is_some()
    }

    /// Changes what is ordered for a backend, and answers whether that was something else.
    pub fn set(&mut self, key: health::Key, change: impl FnOnce(&mut Override)) -> bool {
        let before = self.of(&key);
        let mut after = before;
        change(&mut after);
        if after == Override::default() {
            self.backends.remove(&key);
        } else {
            self.backends.insert(key, after);
        }
        before != after
    }

    /// Begins maintenance, or changes its reason and end; answers whether anything is different.
    pub fn begin_maintenance(&mut self, address: IpAddr, maintenance: Maintenance) -> bool {
        self.maintenance.insert(address, maintenance.clone()) != Some(maintenance)
    }

    /// Ends maintenance, and answers whether there was any.
    pub fn end_maintenance(&mut self, address: IpAddr) -> bool {
        self.maintenance.remove(&address).is_some()
    }

    /// Ends maintenance whose time is over, and answers of whom.
    pub fn expire(&mut self, now: SystemTime) -> Vec<IpAddr> {
        let is_over = |maintenance: &mut Maintenance| maintenance.until.is_some_and(|until| until <= now);
        self.maintenance.extract_if(.., |_, maintenance| is_over(maintenance)).map(|(of, _)| of).collect()
    }

    /// Forgets what is ordered for backends and groups that a configuration does not have, and answers whether there was
    /// any.
    pub fn forget_missing(&mut self, config: &Config) -> bool {
        let sizes = |all: &Self| {
            let shares: usize = all.splits.values().map(BTreeMap::len).sum();
            (all.backends.len(), all.maintenance.len(), shares, all.clients.len())
        };
        let before = sizes(self);
        self.backends.retain(|key, _| {
            let service = config.services.iter().find(|service| service.key() == key.service);
            service.is_some_and(|service| may_have(service, key.address))
        });
        self.maintenance.retain(|host, _| config.services.iter().any(|service| may_have(service, *host)));
        self.splits.retain(|key, shares| {
            let service = config.services.iter().find(|service| service.key() == *key);
            shares.retain(|group, _| service.is_some_and(|service| service.split.contains_key(group)));
            !shares.is_empty()
        });
        self.clients.retain(|key, _| config.services.iter().any(|service| service.key() == *key));
        before != sizes(self)
    }
}

/// Whether a service has a backend, or may hear of it from its sources.
fn may_have(service: &Service, backend: IpAddr) -> bool {
    !service.discovery.is_empty() || service.backends.iter().any(|known| known.address == backend)
}

/// The services of a configuration by what they are called in the file.
fn by_text(config: &Config) -> BTreeMap<String, ServiceKey> {
    config.services.iter().map(|service| (service.key().to_string(), service.key())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::time::Duration;

    pub(super) fn config(backends: &[&str]) -> Config {
        config::parse("test", &text(backends)).unwrap()
    }

    fn text(backends: &[&str]) -> String {
        let backends: String = backends
            .iter()
            .map(|address| format!("[[service.backend]]\naddress = \"{address}\"\n"))
            .collect();
        let service = "[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 80\nprotocol = \"tcp\"\nforward = \"ipip\"\n";
        format!("[agent]\ninterfaces = [\"eth0\"]\n{service}{backends}")
    }

    pub(super) fn key(config: &Config, address: &str) -> health::Key {
        health::Key { service: config.services[0].key(), address: address.parse().unwrap() }
    }

    #[test]
    fn orders_stand_until_they_are_taken_back() {
        let config = config(&["10.0.0.1"]);
        let key = key(&config, "10.0.0.1");
        let mut overrides = Overrides::default();
        assert!(overrides.set(key, |order| order.drained = true));
        assert!(!overrides.set(key, |order| order.drained = true), "nothing new");
        assert!(overrides.set(key, |order| order.weight = Some(7)));
        assert!(overrides.set(key, |order| order.drained = false));
        assert_eq!(overrides.of(&key), Override { drained: false, weight: Some(7) });
        assert!(overrides.set(key, |order| order.weight = None));
        assert_eq!(overrides, Overrides::default());
    }

    #[test]
    fn maintenance_drains_until_its_time_is_over() {
        let config = config(&["10.0.0.1", "fd00::1"]);
        let (one, other) = (key(&config, "10.0.0.1"), key(&config, "fd00::1"));
        let start = SystemTime::UNIX_EPOCH;
        let until = start + Duration::from_secs(60);
        let mut overrides = Overrides::default();
        let work = |until| Maintenance { reason: "disk".into(), until };
        assert!(overrides.begin_maintenance(one.address, work(Some(until))));
        assert!(!overrides.begin_maintenance(one.address, work(Some(until))));
        assert!(overrides.begin_maintenance(other.address, work(None)));
        assert!(overrides.is_drained(&one) && overrides.is_drained(&other));
        assert_eq!(overrides.expire(start), Vec::<IpAddr>::new());
        assert_eq!(overrides.expire(until), [one.address]);
        assert!(!overrides.is_drained(&one) && overrides.is_drained(&other));
        assert!(overrides.end_maintenance(other.address) && !overrides.end_maintenance(other.address));
    }

    #[test]
    fn what_left_the_configuration_is_forgotten() {
        let before = config(&["10.0.0.1", "10.0.0.2"]);
        let mut overrides = Overrides::default();
        for address in ["10.0.0.1", "10.0.0.2"] {
            overrides.set(key(&before, address), |order| order.drained = true);
            let work = Maintenance { reason: String::new(), until: None };
            overrides.begin_maintenance(address.parse().unwrap(), work);
        }
        assert!(!overrides.forget_missing(&before));
        let after = config(&["10.0.0.2"]);
        assert!(overrides.forget_missing(&after));
        assert!(!overrides.is_drained(&key(&before, "10.0.0.1")));
        assert!(overrides.of(&key(&after, "10.0.0.2")).drained);
    }

    #[test]
    fn what_sources_may_name_again_is_not_forgotten() {
        let source = "[[service.discovery]]\nkind = \"file\"\npath = \"/backends.toml\"\n";
        let discovered = config::parse("test", &format!("{}{source}", text(&[]))).unwrap();
        let mut overrides = Overrides::default();
        overrides.set(key(&discovered, "10.0.0.1"), |order| order.weight = Some(7));
        overrides.begin_maintenance(
            "10.0.0.1".parse().unwrap(),
            Maintenance { reason: String::new(), until: None },
        );
        assert!(!overrides.forget_missing(&discovered));
        assert!(overrides.forget_missing(&config(&["10.0.0.2"])));
        assert_eq!(overrides, Overrides::default());
    }

    #[test]
    fn a_split_is_ordered_group_by_group_until_it_is_taken_back() {
        let composed = |split: &str| {
            let text = text(&["10.0.0.1", "10.0.0.2"]);
            let text = text.replacen(
                "[[service.backend]]",
                &format!("[service.split]\n{split}\n[[service.backend]]"),
                1,
            );
            config::parse("test", &text.replace("0.2\"", "0.2\"\ngroup = \"canary\"")).unwrap()
        };
        let config = composed("default = 95\ncanary = 5");
        let service = &config.services[0];
        let shares = |overrides: &Overrides| overrides.split(service).into_values().collect::<Vec<_>>();
        let order = |group: &str, share| BTreeMap::from([(Group::named(group), share)]);
        let mut overrides = Overrides::default();
        assert_eq!(shares(&overrides), [95, 5]);
        assert!(overrides.order_split(service.key(), &order("canary", 20)));
        assert!(!overrides.order_split(service.key(), &order("canary", 20)), "nothing new");
        assert!(overrides.order_split(service.key(), &order("default", 0)));
        assert_eq!((shares(&overrides), overrides.has_split(service.key())), (vec![0, 20], true));
        // Nobody is left without flows by a reload.
        assert!(overrides.order_split(service.key(), &order("canary", 0)));
        assert_eq!(shares(&overrides), [95, 5]);
        // What left the split is forgotten; the rest stands.
        assert!(!overrides.forget_missing(&composed("default = 1\ncanary = 1")));
        let without = config::parse("test", &text(&["10.0.0.1"])).unwrap();
        let mut forgetful = overrides.clone();
        assert!(forgetful.forget_missing(&without));
        assert_eq!(forgetful, Overrides::default());
        assert!(overrides.reset_split(service.key()) && !overrides.reset_split(service.key()));
        assert_eq!(overrides, Overrides::default());
    }
}
