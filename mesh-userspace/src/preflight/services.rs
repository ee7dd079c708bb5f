//! What services ask of this host beside ways to their backends: VIPs, filters of reverse paths, backends of sources.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

use super::links::Ports;
use super::ways::Hops;
use super::{Finding, told};
use crate::config::{Config, ProbeTo, Service};
use crate::nexthop::Resolution;

/// What is to be said of the services.
pub(super) fn check(config: &Config, ports: &Ports, hops: &Hops) -> Vec<Finding> {
    let own = own_addresses();
    let mut findings: Vec<Finding> = config.services.iter().map(|service| vip(service, &own)).collect();
    findings.extend(config.services.iter().filter_map(unknown_backends));
    findings.extend(config.services.iter().filter_map(unprobed));
    if config.services.iter().any(|service| service.vip.addr().is_ipv4() && asks_vip(service)) {
        findings.extend(interfaces(ports, hops).into_iter().map(|name| rp_filter(name, strictness(name))));
    }
    findings
}

fn own_addresses() -> BTreeSet<IpAddr> {
    let addresses = getifaddrs().into_iter().flatten().filter_map(|one| one.address);
    let address = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    addresses.filter_map(address).collect()
}

fn asks_vip(service: &Service) -> bool {
    service.health.as_ref().is_some_and(|health| health.to == ProbeTo::Vip)
}

fn vip(service: &Service, own: &BTreeSet<IpAddr>) -> Finding {
    let is_own = own.iter().any(|address| service.vip.contains(address));
    match (is_own, asks_vip(service)) {
        (true, true) => {
            Finding::fail("vip", &service.name, format!("{} is an address of this host", service.vip)).so(
                "probes to = \"vip\" cannot leave: this host would ask itself",
                format!(
                    "ip address del {} from this host, and route it here instead; or to = \"address\"",
                    service.vip
                ),
            )
        }
        (true, false) => {
            let found = format!(
                "{} is an address of this host: its packets are balanced before it sees them",
                service.vip
            );
            Finding::ok("vip", &service.name, found)
        }
        (false, _) => {
            let found =
                format!("{} is no address of this host: the network has to route it here", service.vip);
            Finding::ok("vip", &service.name, found)
        }
    }
}

fn unknown_backends(service: &Service) -> Option<Finding> {
    let found = "its sources say who its backends are once the agent runs: they are not checked";
    (!service.discovery.is_empty()).then(|| Finding::ok("backends", &service.name, found))
}

fn unprobed(service: &Service) -> Option<Finding> {
    let finding = Finding::warn("health", &service.name, "its backends are not probed");
    service.health.is_none().then(|| {
        finding.so(
            "one that is dead goes on getting packets",
            "give it a [service.health], best with to = \"vip\"",
        )
    })
}

/// Names of the interfaces that answers of backends come by.
fn interfaces<'a>(ports: &'a Ports, hops: &Hops) -> BTreeSet<&'a str> {
    let of = |hop: &Resolution| match hop {
        Resolution::Resolved(hop) => Some(ports.get(&hop.ifindex)?.link.name.as_str()),
        Resolution::Unresolved { .. } => None,
    };
    hops.values().filter_map(of).collect()
}

/// The larger of `all` and the interface's own counts (Documentation/networking/ip-sysctl.rst).
fn strictness(interface: &str) -> u8 {
    let one = |name: &str| {
        told(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).and_then(|text| text.parse().ok())
    };
    ["all", interface].into_iter().filter_map(one).max().unwrap_or(0)
}

fn rp_filter(interface: &str, strictness: u8) -> Finding {
    match strictness {
        0 => Finding::ok("rp-filter", interface, "off: answers to probes of VIPs are taken"),
        2 => Finding::ok(
            "rp-filter",
            interface,
            "loose: answers to probes of VIPs are taken where there is a route to the VIP",
        ),
        _ => Finding::warn("rp-filter", interface, "strict").so(
            format!("answers to probes of VIPs are dropped unless the route to the VIP leads to {interface}"),
            format!(
                "sysctl -w net.ipv4.conf.{}.rp_filter=2, and in /etc/sysctl.d",
                interface.replace('.', "/")
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    fn service(health: &str) -> Service {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"192.0.2.0/28\"\nport = 80\n\
             protocol = \"tcp\"\nforward = \"ipip\"\n{health}\n[[service.backend]]\naddress = \"10.0.0.1\"\n"
        );
        crate::config::parse("test", &text).unwrap().services.remove(0)
    }

    #[test]
    fn a_vip_of_ones_own_matters_where_it_is_asked() {
        let own = BTreeSet::from(["192.0.2.3".parse().unwrap()]);
        let asked = service("health = { kind = \"tcp\", to = \"vip\" }");
        let plain = service("health = { kind = \"tcp\" }");
        assert_eq!(vip(&asked, &own).level, Level::Fail);
        assert_eq!(vip(&plain, &own).level, Level::Ok);
        assert_eq!(vip(&asked, &BTreeSet::new()).level, Level::Ok);
    }

    #[test]
    fn services_without_probes_are_told() {
        assert_eq!(unprobed(&service("")).map(|finding| finding.level), Some(Level::Warn));
        assert_eq!(unprobed(&service("health = { kind = \"tcp\" }")), None);
    }

    #[test]
    fn strict_filters_are_told_with_the_setting() {
        assert_eq!([0, 2].map(|strictness| rp_filter("eth0", strictness).level), [Level::Ok; 2]);
        let strict = rp_filter("eth0.5", 1);
        assert!(
            strict.level == Level::Warn && strict.remedy.contains("conf.eth0/5.rp_filter=2"),
            "{strict:?}"
        );
    }
}
