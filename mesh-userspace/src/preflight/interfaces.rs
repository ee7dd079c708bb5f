//! The interfaces that packets come in and leave by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::link::InfoKind;

use super::links::{Port, Ports, named};
use super::netdev::{self, Features};
use super::{Finding, programs};
use crate::config::{Agent, Config, XdpMode};
use crate::ethtool;
use crate::nexthop::Resolution;

/// Bytes of IP packet beyond which drivers need several buffers: a page less head room and trailer.
const ONE_BUFFER: u32 = 3498;

/// Bytes of the longest frame that the programs are handed (`gro_max_size` of ip-link(8), the kernel's default).
const LONGEST_FRAME: u32 = 65_536;

/// What is to be said of a configured interface.
pub(super) fn check(name: &str, ports: &Ports, agent: &Agent, ours: &BTreeSet<u32>) -> Vec<Finding> {
    let Some((index, port)) = named(ports, name) else { return vec![missing(name)] };
    let mut findings = vec![state(name, port), native(name, port, agent.xdp_mode, netdev::features(index))];
    findings.extend(membership(name, port, ports));
    findings.extend(port.xdp.iter().map(|id| attached(name, *id, programs::name(*id).as_deref(), ours)));
    let vlans = upon(index, ports);
    if !vlans.is_empty() && ethtool::strips_vlan(name) {
        findings.push(hidden_tags(name, &vlans, &agent.interfaces));
    }
    findings.extend(merged(name, port));
    findings
}

fn missing(name: &str) -> Finding {
    Finding::fail("interface", name, "there is no such interface")
        .so("the agent does not start without it", "see the names with: ip link; correct agent.interfaces")
}

fn state(name: &str, port: &Port) -> Finding {
    let link = &port.link;
    if link.mac.is_none() {
        return Finding::fail("interface", name, "it is no Ethernet interface")
            .so("the programs take Ethernet frames", "name the interface that clients' packets arrive at");
    }
    if !link.up {
        return Finding::fail("interface", name, "it is down")
            .so("no packet arrives, and none leaves", format!("ip link set {name} up"));
    }
    if !link.carrier {
        return Finding::warn("interface", name, "it is up, but has no carrier").so(
            "no packet arrives, and none leaves",
            format!("look at the cable of {name}, and at its other end"),
        );
    }
    let driver = ethtool::name(name).or_else(|| port.kind.as_ref().map(ToString::to_string));
    let driver = driver.map(|driver| format!(", driver {driver}")).unwrap_or_default();
    Finding::ok("interface", name, format!("it is up, MTU {}{driver}", link.mtu))
}

/// Where XDP will run.
fn native(name: &str, port: &Port, mode: XdpMode, features: Option<Features>) -> Finding {
    const SLOW: &str = "generic XDP runs behind the driver, and takes several times the CPU for each packet";
    if mode == XdpMode::Generic {
        return Finding::ok("xdp", name, "generic, as configured");
    }
    let lacks = match features {
        None => {
            let found = "the kernel does not tell what the driver can (it does from 6.3 on)";
            let end =
                if mode == XdpMode::Native { "the agent ends" } else { "the agent falls back to generic" };
            return Finding::warn("xdp", name, found).so(
                format!("where native XDP is not possible, {end}"),
                "the driver's documentation says more",
            );
        }
        Some(can) if !can.runs_programs() => "the driver runs no native XDP".to_owned(),
        Some(can) if !can.has_fragments() && port.link.mtu > ONE_BUFFER => {
            format!("the driver runs no native XDP at MTU {}: it gives programs one buffer", port.link.mtu)
        }
        Some(_) => return Finding::ok("xdp", name, "native: the driver runs it"),
    };
    match mode {
        XdpMode::Native => Finding::fail("xdp", name, lacks).so(
            "xdp_mode is \"native\", so that the agent ends",
            "set xdp_mode = \"auto\", or take another card",
        ),
        XdpMode::Auto | XdpMode::Generic => {
            Finding::warn("xdp", name, lacks).so(SLOW, "xdp_mode = \"generic\" says so in the file")
        }
    }
}

/// What it is a part of, or made of.
fn membership(name: &str, port: &Port, ports: &Ports) -> Option<Finding> {
    if let Some(master) = port.master.and_then(|index| ports.get(&index)) {
        return Some(of_master(name, master));
    }
    if port.kind == Some(InfoKind::Vlan) {
        return Some(Finding::warn("xdp", name, "it is a VLAN device").so(
            "XDP is generic there, and native programs cannot redirect to it",
            "that works; for native XDP name the trunk below it, see docs/operations.md, Offloads",
        ));
    }
    None
}

fn of_master(name: &str, master: &Port) -> Finding {
    let upper = &master.link.name;
    let what = master.kind.as_ref().map_or("device".to_owned(), ToString::to_string);
    let found = format!("it is a port of the {what} {upper}");
    match &master.kind {
        Some(InfoKind::Bond | InfoKind::Team) => Finding::fail("interface", name, found).so(
            format!("routes lead to {upper}, so that packets are not sent back by {name}, and those of other ports are not balanced"),
            format!("interfaces = [\"{upper}\"]"),
        ),
        _ => Finding::warn("interface", name, found).so(
            format!("routes and next hops are those of {upper}, to which native programs cannot redirect"),
            format!("interfaces = [\"{upper}\"], where XDP is generic"),
        ),
    }
}

fn attached(name: &str, id: u32, program: Option<&str>, ours: &BTreeSet<u32>) -> Finding {
    let program = program.map_or("whose name is not known".to_owned(), |program| format!("{program:?}"));
    if ours.contains(&id) {
        return Finding::ok("xdp-program", name, format!("an agent's own program is attached (id {id})"));
    }
    Finding::fail("xdp-program", name, format!("another XDP program is attached: {program} (id {id})")).so(
        "an interface takes one XDP program, so that the agent does not start",
        format!(
            "ip link set {name} xdp off, or stop who attached it, or pin it and name it in agent.next_program"
        ),
    )
}

/// VLAN devices upon an interface.
fn upon(index: u32, ports: &Ports) -> Vec<&str> {
    let is_upon = |port: &&Port| port.below == Some(index) && port.kind == Some(InfoKind::Vlan);
    ports.values().filter(is_upon).map(|port| port.link.name.as_str()).collect()
}

fn hidden_tags(name: &str, vlans: &[&str], configured: &[String]) -> Finding {
    let found = format!("it takes VLAN tags off, and has the VLANs {}", vlans.join(", "));
    if vlans.iter().all(|vlan| configured.iter().any(|one| one == vlan)) {
        return Finding::ok("offloads", name, found);
    }
    Finding::warn("offloads", name, found).so(
        "programs see packets of all VLANs without their tags, and answer without",
        format!("name the VLAN devices in agent.interfaces, or: ethtool -K {name} rxvlan off"),
    )
}

fn merged(name: &str, port: &Port) -> Option<Finding> {
    let bytes = port.gro_max_size.filter(|bytes| *bytes > LONGEST_FRAME)?;
    let why = "the programs understand no packets longer than 64 KiB, which generic XDP may be handed";
    let remedy = format!("ip link set {name} gro_max_size {LONGEST_FRAME}");
    Some(Finding::warn("offloads", name, format!("gro_max_size is {bytes}")).so(why, remedy))
}

/// Interfaces that packets leave by, which are none of those that they come in by.
pub(super) fn egress(config: &Config, ports: &Ports, hops: &BTreeMap<IpAddr, Resolution>) -> Vec<Finding> {
    let leave: BTreeSet<u32> = hops
        .values()
        .filter_map(|hop| match hop {
            Resolution::Resolved(hop) => Some(hop.ifindex),
            Resolution::Unresolved { .. } => None,
        })
        .collect();
    let configured =
        |index: &u32| ports.get(index).is_some_and(|port| config.agent.interfaces.contains(&port.link.name));
    let is_native = config.agent.xdp_mode != XdpMode::Generic
        && config
            .agent
            .interfaces
            .iter()
            .filter_map(|name| named(ports, name))
            .any(|(index, _)| netdev::features(index).is_some_and(Features::runs_programs));
    let others = leave.iter().filter(|index| !configured(index));
    others
        .filter_map(|index| {
            Some(redirected(&ports.get(index)?.link.name, is_native, netdev::features(*index)))
        })
        .collect()
}

fn redirected(name: &str, is_native: bool, features: Option<Features>) -> Finding {
    const FOUND: &str = "packets to backends leave by it";
    match features {
        Some(can) if is_native && !can.sends_redirected() => Finding::fail(
            "egress",
            name,
            format!("{FOUND}, but it sends nothing that native programs redirect"),
        )
        .so(
            "such packets are lost, while the counter says that they were redirected",
            "set xdp_mode = \"generic\"; of a veth, turn GRO on at its other end",
        ),
        _ => Finding::ok("egress", name, FOUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nexthop::Link;
    use crate::preflight::Level;

    fn port(name: &str) -> Port {
        let link = Link { name: name.into(), mac: Some([2; 6]), mtu: 1500, up: true, carrier: true };
        Port {
            link,
            kind: None,
            master: None,
            below: None,
            xdp: Vec::new(),
            gro_max_size: Some(LONGEST_FRAME),
        }
    }

    fn of_kind(name: &str, kind: InfoKind) -> Port {
        Port { kind: Some(kind), ..port(name) }
    }

    fn can(bits: u64) -> Option<Features> {
        Some(Features::from(bits))
    }

    #[test]
    fn what_no_packet_passes_fails() {
        let down = |change: fn(&mut Link)| {
            let mut port = port("eth9");
            change(&mut port.link);
            state("eth9", &port)
        };
        assert_eq!(state("eth9", &port("eth9")).level, Level::Ok);
        assert_eq!(down(|link| link.mac = None).level, Level::Fail);
        assert_eq!(down(|link| link.up = false).remedy, "ip link set eth9 up");
        assert_eq!(down(|link| link.carrier = false).level, Level::Warn);
    }

    #[test]
    fn where_xdp_runs_depends_on_driver_mode_and_mtu() {
        let level = |mode, features, mtu| {
            let mut port = port("eth9");
            port.link.mtu = mtu;
            native("eth9", &port, mode, features).level
        };
        assert_eq!(level(XdpMode::Auto, can(1), 1500), Level::Ok);
        assert_eq!(level(XdpMode::Auto, can(1), 9000), Level::Warn, "no fragments");
        assert_eq!(level(XdpMode::Auto, can(1 | 32), 9000), Level::Ok);
        assert_eq!(level(XdpMode::Auto, can(0), 1500), Level::Warn);
        assert_eq!(level(XdpMode::Native, can(0), 1500), Level::Fail);
        assert_eq!(level(XdpMode::Generic, can(0), 9000), Level::Ok);
        assert_eq!(level(XdpMode::Native, None, 1500), Level::Warn);
    }

    #[test]
    fn parts_of_something_larger_are_told_with_its_name() {
        let of = |kind| {
            let ports = Ports::from([(7, of_kind("upper0", kind))]);
            membership("eth9", &Port { master: Some(7), ..port("eth9") }, &ports).unwrap()
        };
        let bond = of(InfoKind::Bond);
        assert!(bond.level == Level::Fail && bond.remedy.contains("[\"upper0\"]"), "{bond:?}");
        let bridge = of(InfoKind::Bridge);
        assert!(bridge.level == Level::Warn && bridge.found.ends_with("bridge upper0"), "{bridge:?}");
        let vlan = membership("eth9.5", &of_kind("eth9.5", InfoKind::Vlan), &Ports::new()).unwrap();
        assert!(vlan.level == Level::Warn && vlan.found.contains("VLAN"), "{vlan:?}");
        assert_eq!(membership("eth9", &port("eth9"), &Ports::new()), None);
    }

    #[test]
    fn tags_that_programs_do_not_see_are_told() {
        let ports = Ports::from([
            (7, Port { below: Some(2), ..of_kind("eth9.5", InfoKind::Vlan) }),
            (8, Port { below: Some(2), ..of_kind("mac0", InfoKind::MacVlan) }),
            (9, Port { below: Some(3), ..of_kind("eth8.5", InfoKind::Vlan) }),
        ]);
        assert_eq!(upon(2, &ports), ["eth9.5"]);
        let level = |configured: &[&str]| {
            let configured: Vec<_> = configured.iter().map(ToString::to_string).collect();
            hidden_tags("eth9", &["eth9.5"], &configured).level
        };
        assert_eq!([level(&["eth9"]), level(&["eth9", "eth9.5"])], [Level::Warn, Level::Ok]);
    }

    #[test]
    fn frames_that_are_too_long_are_told() {
        assert_eq!(merged("eth9", &port("eth9")), None);
        let long = merged("eth9", &Port { gro_max_size: Some(200_000), ..port("eth9") }).unwrap();
        assert!(long.remedy.ends_with("gro_max_size 65536"), "{long:?}");
    }

    #[test]
    fn ones_own_program_is_no_foreign_one() {
        let ours = BTreeSet::from([5]);
        assert_eq!(attached("eth9", 5, Some("meshlb"), &ours).level, Level::Ok);
        let foreign = attached("eth9", 6, Some("filter"), &ours);
        assert!(foreign.level == Level::Fail && foreign.found.contains("\"filter\" (id 6)"), "{foreign:?}");
    }

    #[test]
    fn what_native_programs_redirect_has_to_be_sent() {
        assert_eq!(redirected("eth1", true, can(1)).level, Level::Fail);
        assert_eq!(redirected("eth1", true, can(1 | 4)).level, Level::Ok);
        assert_eq!(redirected("eth1", false, can(0)).level, Level::Ok);
        assert_eq!(redirected("eth1", true, None).level, Level::Ok);
    }
}
