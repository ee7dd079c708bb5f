//! The ways to backends: routes, next hops, and how long packets may be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Finding;
use super::links::{Ports, named};
use crate::config::{Config, Forward, Service};
use crate::dataplane::backend_entry;
use crate::delivery::Delivery;
use crate::nexthop::{NextHop, NextHopError, Resolution, Resolver};

/// The kernel gives up on a neighbour after three questions, one a second (`mcast_solicit`, `retrans_time_ms`).
const PATIENCE: Duration = Duration::from_secs(4);

/// Bytes of packet that clients usually send at most.
const USUAL: u32 = 1500;

/// Bytes of packet that every way has to carry (RFC 8200 §5; RFC 791 §3.2 has 68, which nobody can use).
const LEAST_IPV6: u32 = 1280;
const LEAST_IPV4: u32 = 576;

/// Bytes of the headers of IPv4 or IPv6, and TCP.
const HEADERS: [u32; 2] = [40, 60];

/// Addresses that one line names.
const NAMED: usize = 3;

/// Where packets to every configured backend leave.
pub(super) type Hops = BTreeMap<IpAddr, Resolution>;

/// Asks the kernel, and waits until it has found all neighbours, or given up.
pub(super) async fn resolve(config: &Config) -> Result<Hops, NextHopError> {
    let backends = config.services.iter().flat_map(|service| &service.backends);
    let wanted: BTreeSet<IpAddr> = backends.map(|backend| backend.address).collect();
    let (tx, mut hops) = watch::channel(Hops::new());
    let resolver = Resolver::start(tx).await?;
    resolver.want(wanted.clone());
    let is_resolved = |hop: &Resolution| matches!(hop, Resolution::Resolved(_));
    let all = hops.wait_for(|hops| hops.len() == wanted.len() && hops.values().all(is_resolved));
    // Those that are not found by then are told with the reason.
    let _ = timeout(PATIENCE, all).await;
    Ok(hops.borrow().clone())
}

fn resolved(hops: &Hops, address: IpAddr) -> Option<NextHop> {
    match hops.get(&address)? {
        Resolution::Resolved(hop) => Some(*hop),
        Resolution::Unresolved { .. } => None,
    }
}

/// Whether there is a way to each backend.
pub(super) fn routes(config: &Config, hops: &Hops) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        hops.iter().filter_map(|(address, hop)| unreachable(config, *address, hop)).collect();
    findings.extend(config.services.iter().flat_map(|service| behind_routers(service, hops)));
    if findings.is_empty() && !hops.is_empty() {
        findings.push(Finding::ok("route", "", format!("there is a way to each of {} backends", hops.len())));
    }
    findings
}

fn unreachable(config: &Config, address: IpAddr, hop: &Resolution) -> Option<Finding> {
    let Resolution::Unresolved { reason, remedy, is_local } = hop else { return None };
    let has = |service: &&Service| service.backends.iter().any(|backend| backend.address == address);
    let mut services = config.services.iter().filter(has);
    // The agent makes devices that lead there.
    if *is_local && services.all(|service| service.forward == Forward::Nat) {
        return None;
    }
    let finding = Finding::fail("route", &format!("backend {address}"), reason);
    Some(finding.so("it gets no packets", remedy))
}

fn behind_routers(service: &Service, hops: &Hops) -> Vec<Finding> {
    let missed =
        |address: &IpAddr| resolved(hops, *address).is_some_and(|hop| !service.forward.reaches(&hop));
    let addresses = service.backends.iter().map(|backend| backend.address).filter(missed);
    let finding = |address: IpAddr| {
        let found = format!("backend {address} is behind a router, which direct return cannot pass");
        Finding::fail("route", &service.name, found).so(
            "the router would send packets for the VIP back",
            "give it an address on a link of this host, or use forward = \"ipip\"",
        )
    };
    addresses.map(finding).collect()
}

/// Whether clients' packets fit the ways to backends, with what is put before them.
pub(super) fn lengths(config: &Config, ports: &Ports, hops: &Hops) -> Vec<Finding> {
    let comes_in = config.agent.interfaces.iter().filter_map(|name| Some(named(ports, name)?.1.link.mtu));
    let longest = comes_in.max().unwrap_or(USUAL).min(USUAL);
    config
        .services
        .iter()
        .flat_map(|service| service_lengths(config, service, ports, hops, longest))
        .collect()
}

fn service_lengths(
    config: &Config,
    service: &Service,
    ports: &Ports,
    hops: &Hops,
    longest: u32,
) -> Vec<Finding> {
    let delivery = Delivery::of(service, config.agent.outer_source);
    let mut alike: BTreeMap<Room, Vec<IpAddr>> = BTreeMap::new();
    for backend in &service.backends {
        let Some(hop) = resolved(hops, backend.address) else { continue };
        let bytes = backend_entry(0, service.key(), backend.address, &delivery, &hop).room.into();
        let is_ipv4 = service.vip.addr().is_ipv4();
        let room = Room { ifindex: hop.ifindex, mtu: hop.mtu, bytes, is_ipv4 };
        alike.entry(room).or_default().push(backend.address);
    }
    let interface =
        |index: u32| ports.get(&index).map_or_else(|| index.to_string(), |port| port.link.name.clone());
    alike.iter().map(|(room, to)| room.judge(service, &interface(room.ifindex), to, longest)).collect()
}

/// How long packets may be on the way to some backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Room {
    ifindex: u32,
    /// Bytes of packet that the way carries.
    mtu: u32,
    /// Bytes of packet that fit before it is wrapped.
    bytes: u32,
    /// Whether the VIP is.
    is_ipv4: bool,
}

impl Room {
    fn judge(&self, service: &Service, interface: &str, to: &[IpAddr], longest: u32) -> Finding {
        let Self { mtu, bytes, .. } = *self;
        let headers = mtu.saturating_sub(bytes);
        let forward = service.forward;
        let found = format!(
            "{forward} to {} by {interface}: MTU {mtu} less {headers} bytes of headers leaves {bytes}",
            list(to)
        );
        if bytes >= longest {
            return Finding::ok("mtu", &service.name, format!("{found}; clients' packets of {longest} fit"));
        }
        let found = format!("{found}; clients' packets of {longest} do not fit");
        if bytes < if self.is_ipv4 { LEAST_IPV4 } else { LEAST_IPV6 } {
            return Finding::fail("mtu", &service.name, found).so(
                "not even the shortest packets that every network carries fit",
                self.remedy(service.forward, interface, longest),
            );
        }
        Finding::warn("mtu", &service.name, found).so(
            "their senders are told by ICMP, once each; where a firewall drops that, long answers and uploads hang",
            self.remedy(service.forward, interface, longest),
        )
    }

    fn remedy(&self, forward: Forward, interface: &str, longest: u32) -> String {
        let needed = longest + self.mtu.saturating_sub(self.bytes);
        let raise = format!("ip link set {interface} mtu {needed}, and on all links to the backends");
        let [ipv4, ipv6] = HEADERS;
        let segment = self.bytes.saturating_sub(if self.is_ipv4 { ipv4 } else { ipv6 });
        match forward {
            Forward::L2 | Forward::Nat => raise,
            Forward::Ipip | Forward::Gue | Forward::Geneve => {
                format!("{raise}; or advmss {segment} on the backends' routes to clients")
            }
        }
    }
}

/// Some addresses, and how many more.
fn list(addresses: &[IpAddr]) -> String {
    let named: Vec<_> = addresses.iter().take(NAMED).map(ToString::to_string).collect();
    match addresses.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    fn config(forward: &str, vip: &str) -> Config {
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"{vip}\"\nport = 80\n\
             protocol = \"tcp\"\nforward = \"{forward}\"\n[[service.backend]]\naddress = \"10.0.0.1\"\n\
             [[service.backend]]\naddress = \"10.0.0.2\"\n"
        );
        crate::config::parse("test", &text).unwrap()
    }

    fn hops(mtu: u32) -> Hops {
        let hop = Resolution::Resolved(NextHop { mtu, ..NextHop::some() });
        ["10.0.0.1", "10.0.0.2"].map(|address| (address.parse().unwrap(), hop.clone())).into()
    }

    fn one(forward: &str, vip: &str, mtu: u32) -> Finding {
        let [finding] = &lengths(&config(forward, vip), &Ports::new(), &hops(mtu))[..] else {
            panic!("one way")
        };
        finding.clone()
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_mtu_that_would() {
        assert_eq!(one("l2", "192.0.2.10", 1500).level, Level::Ok);
        assert_eq!(one("ipip", "192.0.2.10", 1520).level, Level::Ok);
        let narrow = one("ipip", "192.0.2.10", 1500);
        assert_eq!(narrow.level, Level::Warn);
        assert!(narrow.remedy.contains("mtu 1520,") && narrow.remedy.contains("advmss 1440 "), "{narrow:?}");
        let geneve = one("geneve", "2001:db8::10", 1500);
        assert!(geneve.remedy.contains("mtu 1560,") && geneve.remedy.contains("advmss 1380 "), "{geneve:?}");
        assert_eq!(one("ipip", "2001:db8::10", 1290).level, Level::Fail, "IPv6 needs 1280");
    }

    #[test]
    fn obstacles_are_told_with_a_remedy() {
        let hop = Resolution::Unresolved {
            reason: "no route to 10.0.0.1".into(),
            remedy: "ip route add".into(),
            is_local: false,
        };
        let found = routes(&config("ipip", "192.0.2.10"), &[("10.0.0.1".parse().unwrap(), hop)].into());
        assert_eq!((found.len(), found[0].level), (1, Level::Fail));
        assert_eq!((found[0].about.as_str(), found[0].remedy.as_str()), ("backend 10.0.0.1", "ip route add"));
        let all = routes(&config("ipip", "192.0.2.10"), &hops(1500));
        assert_eq!((all.len(), all[0].level), (1, Level::Ok));
    }

    #[test]
    fn only_translation_reaches_this_host_itself() {
        let here = Resolution::Unresolved { reason: String::new(), remedy: String::new(), is_local: true };
        let hops: Hops = [("10.0.0.1".parse().unwrap(), here)].into();
        assert_eq!(routes(&config("ipip", "192.0.2.10"), &hops)[0].level, Level::Fail);
        assert_eq!(routes(&config("nat", "192.0.2.10"), &hops)[0].level, Level::Ok);
    }

    #[test]
    fn direct_return_needs_neighbours() {
        let far = Resolution::Resolved(NextHop { direct: false, ..NextHop::some() });
        let hops: Hops = [("10.0.0.1".parse().unwrap(), far)].into();
        assert_eq!(routes(&config("l2", "192.0.2.10"), &hops)[0].level, Level::Fail);
        assert_eq!(routes(&config("ipip", "192.0.2.10"), &hops)[0].level, Level::Ok);
    }

    #[test]
    fn many_addresses_are_counted() {
        let addresses: Vec<IpAddr> = (1..=5).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert_eq!(list(&addresses), "10.0.0.1, 10.0.0.2, 10.0.0.3 and 2 more");
        assert_eq!(list(&addresses[..1]), "10.0.0.1");
    }
}
