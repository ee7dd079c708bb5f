//! What a service becomes in another configuration, for people.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Backend, Config, Group, Health, Service, ServiceKey, Vip};

/// A key whose value changes; values that say little, or nothing that may be shown, are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key, within the service or the backend.
    pub key: &'static str,
    /// What it was.
    pub from: Option<String>,
    /// What it becomes.
    pub to: Option<String>,
}

/// What becomes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It is new.
    Added(&'a Service),
    /// It is gone.
    Removed(&'a Service),
    /// It is another than before.
    Changed {
        /// As it was.
        old: &'a Service,
        /// As it becomes.
        new: &'a Service,
    },
}

/// What becomes of the backends of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backends {
    /// Those that are new.
    pub added: Vec<IpAddr>,
    /// Those that are gone.
    pub removed: Vec<IpAddr>,
    /// Those of which something is said that was not.
    pub changed: Vec<(IpAddr, Vec<Setting>)>,
}

impl Config {
    /// The services that do not stay as they are in `new`, by identity.
    #[must_use]
    pub fn fates<'a>(&'a self, new: &'a Self) -> BTreeMap<ServiceKey, Fate<'a>> {
        let before: BTreeMap<_, _> = self.services.iter().map(|service| (service.key(), service)).collect();
        let after: BTreeMap<_, _> = new.services.iter().map(|service| (service.key(), service)).collect();
        let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
        let gone = gone.map(|(key, service)| (*key, Fate::Removed(service)));
        let there = after.iter().filter_map(|(key, new)| match before.get(key) {
            None => Some((*key, Fate::Added(new))),
            Some(old) if old == new => None,
            Some(old) => Some((*key, Fate::Changed { old, new })),
        });
        gone.chain(there).collect()
    }
}

/// The backends that come, go and change from one list to another.
#[must_use]
pub fn backends(old: &[Backend], new: &[Backend]) -> Backends {
    let by_address = |list: &[Backend]| -> BTreeMap<IpAddr, Backend> {
        list.iter().map(|backend| (backend.address, backend.clone())).collect()
    };
    let (before, after) = (by_address(old), by_address(new));
    let missing_in = |these: &BTreeMap<IpAddr, Backend>, those: &BTreeMap<IpAddr, Backend>| {
        these.keys().filter(|address| !those.contains_key(address)).copied().collect()
    };
    let change = |(address, new): (&IpAddr, &Backend)| {
        let settings = backend(before.get(address)?, new);
        (!settings.is_empty()).then_some((*address, settings))
    };
    Backends {
        added: missing_in(&after, &before),
        removed: missing_in(&before, &after),
        changed: after.iter().filter_map(change).collect(),
    }
}

/// Names every field, so that a new one does not compile until it is compared.
fn backend(old: &Backend, new: &Backend) -> Vec<Setting> {
    let Backend { address: _, weight, group, priority, port, standing } = old;
    let settings = [
        shown("weight", *weight, new.weight),
        shown("group", group, &new.group),
        shown("priority", *priority, new.priority),
        some("port", port.as_ref(), new.port.as_ref()),
        hidden("state", *standing == new.standing),
    ];
    settings.into_iter().flatten().collect()
}

/// What else than the backends differs of a service. Names every field, so that a new one does not compile until it is
/// compared.
#[must_use]
pub fn settings(old: &Service, new: &Service) -> Vec<Setting> {
    let Service {
        name,
        vip,
        ports,
        protocol,
        scheduler,
        forward,
        tunnel_port,
        oversized,
        on_no_backends,
        tracking,
        window,
        max_flows,
        flood_threshold,
        idle_timeout,
        table_size,
        expected_backends,
        health: probes,
        passive,
        performance,
        split,
        spill_over_below,
        backends: _,
        discovery,
        quic,
        nat,
        guard,
    } = old;
    let settings = [
        shown("name", name, &new.name),
        shown("vip", Vip(*vip), Vip(new.vip)),
        shown("port", ports, &new.ports),
        shown("protocol", protocol, &new.protocol),
        shown("scheduler", scheduler, &new.scheduler),
        shown("forward", forward, &new.forward),
        some("tunnel_port", tunnel_port.as_ref(), new.tunnel_port.as_ref()),
        shown("oversized", oversized, &new.oversized),
        shown("on_no_backends", on_no_backends, &new.on_no_backends),
        shown("tracking", tracking, &new.tracking),
        shown("window", time(*window), time(new.window)),
        some("max_flows", max_flows.as_ref(), new.max_flows.as_ref()),
        some("flood_threshold", flood_threshold.as_ref(), new.flood_threshold.as_ref()),
        some("idle_timeout", idle_timeout.map(time), new.idle_timeout.map(time)),
        some("table_size", table_size.as_ref(), new.table_size.as_ref()),
        some("expected_backends", expected_backends.as_ref(), new.expected_backends.as_ref()),
        some("split", shares(split), shares(&new.split)),
        shown("spill_over_below", spill_over_below, &new.spill_over_below),
        hidden("health.passive", *passive == new.passive),
        hidden("performance", *performance == new.performance),
        hidden("discovery", *discovery == new.discovery),
        hidden("quic", *quic == new.quic),
        hidden("nat", *nat == new.nat),
        hidden("guard", *guard == new.guard),
    ];
    let health = health(probes.as_ref(), new.health.as_ref());
    settings.into_iter().flatten().chain(health).collect()
}

/// A split as it could be written in one line; none without one.
fn shares(split: &BTreeMap<Group, u16>) -> Option<String> {
    let shares: Vec<_> = split.iter().map(|(group, share)| format!("{group} = {share}")).collect();
    (!shares.is_empty()).then(|| format!("{{ {} }}", shares.join(", ")))
}

/// What differs of probes; what they ask may hold secrets.
fn health(old: Option<&Health>, new: Option<&Health>) -> Vec<Setting> {
    let (Some(old), Some(new)) = (old, new) else {
        let kind = |health: &Health| health.kind.name();
        return some("health", old.map(kind), new.map(kind)).into_iter().collect();
    };
    let settings = [
        shown("health.kind", old.kind.name(), new.kind.name()),
        some("health.port", old.port, new.port),
        shown("health.interval", time(old.interval), time(new.interval)),
        shown("health.timeout", time(old.timeout), time(new.timeout)),
        shown("health.rise", old.rise, new.rise),
        shown("health.fall", old.fall, new.fall),
        shown("health.panic_threshold", old.panic_threshold, new.panic_threshold),
        shown("health.slow_start", time(old.slow_start), time(new.slow_start)),
        hidden("health.damping", old.damping == new.damping),
    ];
    let settings: Vec<_> = settings.into_iter().flatten().collect();
    if settings.is_empty() { hidden("health", old == new).into_iter().collect() } else { settings }
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn shown<T: ToString>(key: &'static str, old: T, new: T) -> Option<Setting> {
    some(key, Some(old), Some(new))
}

fn some<T: ToString>(key: &'static str, old: Option<T>, new: Option<T>) -> Option<Setting> {
    let (from, to) = (old.map(|value| value.to_string()), new.map(|value| value.to_string()));
    (from != to).then_some(Setting { key, from, to })
}

fn hidden(key: &'static str, is_same: bool) -> Option<Setting> {
    (!is_same).then_some(Setting { key, from: None, to: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn service(port: u16, lines: &str) -> String {
        format!(
            "[[service]]\nname = \"s{port}\"\nvip = \"203.0.113.10\"\nport = {port}\nprotocol = \"tcp\"\n\
             forward = \"ipip\"\n{lines}\n"
        )
    }

    fn config(services: &[String]) -> Config {
        config::parse("test", &format!("[agent]\ninterfaces = [\"eth0\"]\n{}", services.concat())).unwrap()
    }

    fn keys(old: &str, new: &str) -> Vec<String> {
        let (old, new) = (config(&[service(1, old)]), config(&[service(1, new)]));
        let settings = settings(&old.services[0], &new.services[0]);
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        settings.into_iter().map(|it| format!("{} {} {}", it.key, text(it.from), text(it.to))).collect()
    }

    #[test]
    fn services_come_go_and_change_by_identity() {
        let (old, new) = (
            config(&[service(1, ""), service(2, ""), service(3, "")]),
            config(&[service(2, ""), service(3, "window = \"9s\""), service(4, "")]),
        );
        let fates: Vec<_> = old.fates(&new).into_values().collect();
        let expected = [
            Fate::Removed(&old.services[0]),
            Fate::Changed { old: &old.services[2], new: &new.services[1] },
            Fate::Added(&new.services[2]),
        ];
        assert_eq!(fates, expected);
        assert!(old.fates(&old).is_empty());
    }

    #[test]
    fn settings_are_shown_with_their_values_but_those_that_may_hold_secrets() {
        assert_eq!(keys("", ""), [""; 0]);
        assert_eq!(
            keys("", "window = \"90s\"\nmax_flows = 7\nflood_threshold = 9"),
            ["tracking adaptive always", "window 30m 1m 30s", "max_flows - 7", "flood_threshold - 9"]
        );
        assert_eq!(keys("health = { kind = \"tcp\" }", ""), ["health tcp -"]);
        let http = |path: &str| format!("health = {{ kind = \"http\", path = \"{path}\" }}");
        assert_eq!(keys(&http("/a"), &http("/b")), ["health - -"]);
        assert_eq!(
            keys(&http("/a"), "health = { kind = \"tcp\", rise = 9 }"),
            ["health.kind http tcp", "health.rise 2 9"]
        );
    }

    #[test]
    fn splits_are_shown_as_they_could_be_written() {
        let split = |shares: &str, group: &str| {
            format!(
                "split = {{ {shares} }}\nspill_over_below = 70\n[[service.backend]]\naddress = \"10.0.0.1\"\ngroup = \"{group}\""
            )
        };
        assert_eq!(
            keys("", &split("canary = 5", "canary")),
            ["split - { canary = 5 }", "spill_over_below 0 70"]
        );
        assert_eq!(
            keys(&split("canary = 5", "canary"), &split("stable = 1", "stable")),
            ["split { canary = 5 } { stable = 1 }"]
        );
        let backend = |group, priority| Backend {
            group: Group::named(group),
            priority,
            ..Backend::new([10, 0, 0, 1].into(), 100)
        };
        let found = backends(&[backend("default", 0)], &[backend("canary", 2)]).changed;
        let settings: Vec<_> =
            found[0].1.iter().map(|it| (it.key, it.from.as_deref(), it.to.as_deref())).collect();
        assert_eq!(
            settings,
            [("group", Some("default"), Some("canary")), ("priority", Some("0"), Some("2"))]
        );
    }

    #[test]
    fn backends_come_go_and_change() {
        let backend = |last: u8, weight| Backend::new([10, 0, 0, last].into(), weight);
        let old = [backend(1, 100), backend(2, 100), backend(3, 100)];
        let found = backends(&old, &[backend(4, 100), backend(3, 5), backend(2, 100)]);
        let weight = Setting { key: "weight", from: Some("100".into()), to: Some("5".into()) };
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert_eq!((found.added, found.removed), (vec![address(4)], vec![address(1)]));
        assert_eq!(found.changed, [(address(3), vec![weight])]);
    }
}
