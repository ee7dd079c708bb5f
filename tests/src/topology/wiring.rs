//! Making hosts and cables: namespaces, the bridge, veth pairs and the settings that make them behave like
//! machines on wires.

use anyhow::Result;

use super::addresses::{Pair, Subnet};
use crate::host::{FarEnd, Host, INTERFACE};
use crate::namespace::Namespace;

/// The bridge within the `switch` namespace.
pub(crate) const BRIDGE: &str = "br0";

/// No address is given by chance or late: no duplicate address detection, no router advertisements. Answers
/// may come back on another path than the question took, which is what a direct return is.
const QUIET: &[(&str, &str)] = &[
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/all/autoconf", "0"),
    ("net/ipv6/conf/default/autoconf", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/ipv6/conf/all/keep_addr_on_down", "1"),
];

/// A backend owns the VIP on `lo` but must not tell the wire so: the VIP's ARP entry is the balancer's.
pub(crate) const SILENT_VIPS: &[(&str, &str)] =
    &[("net/ipv4/conf/all/arp_ignore", "1"), ("net/ipv4/conf/all/arp_announce", "2")];

pub(crate) const FORWARDING: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
];

/// A namespace that is quiet.
pub(crate) fn machine(topology: &str, name: &str) -> Result<Namespace> {
    let namespace = Namespace::create(topology, name)?;
    namespace.sysctls(QUIET)?;
    Ok(namespace)
}

/// The switch: a bridge that forwards from the first frame on and floods multicast, as neighbour discovery
/// needs it. Frames do not visit the firewall of the namespace.
pub(crate) fn switch(topology: &str) -> Result<Namespace> {
    let namespace = machine(topology, "switch")?;
    let immediate = "forward_delay 0 stp_state 0 mcast_snooping 0";
    let unfiltered = "nf_call_iptables 0 nf_call_ip6tables 0 nf_call_arptables 0";
    let bridge = format!("link add {BRIDGE} type bridge {immediate} {unfiltered}\nlink set {BRIDGE} up\n");
    namespace.ip(&bridge)?;
    Ok(namespace)
}

/// A new host before it has addresses: its namespace and a cable from its `eth0` to `far`.
pub(crate) struct Plugged {
    pub(crate) namespace: Namespace,
    pub(crate) far_end: FarEnd,
}

impl Plugged {
    /// Gives `eth0` its addresses and makes the host known by `name`.
    pub(crate) fn settle(self, name: &str, subnet: Subnet, number: u8) -> Result<Host> {
        self.namespace.ip(&subnet.assign(INTERFACE, number))?;
        let addresses: Pair = subnet.host(number);
        Ok(Host::new(name, self.namespace, addresses, self.far_end))
    }
}

/// Connects the machine's `eth0` with a new port of the switch, named after the machine.
pub(crate) fn plug_into_switch(
    namespace: Namespace,
    name: &str,
    switch: &Namespace,
    mtu: u32,
) -> Result<Plugged> {
    let plugged = cable(namespace, switch, name, mtu)?;
    switch.ip(&format!("link set {name} master {BRIDGE}\nlink set {name} up\n"))?;
    Ok(plugged)
}

/// Connects the machine's `eth0` with a new interface of another machine. Both ends of a cable have one MTU:
/// a veth drops what is longer than its own without a word.
pub(crate) fn cable(namespace: Namespace, far: &Namespace, interface: &str, mtu: u32) -> Result<Plugged> {
    let near = namespace.name();
    let peer = format!("peer name {INTERFACE} mtu {mtu} netns {near}");
    far.ip(&format!("link add {interface} mtu {mtu} type veth {peer}\n"))?;
    namespace.plain_frames(INTERFACE)?;
    far.plain_frames(interface)?;
    Ok(Plugged { namespace, far_end: FarEnd { namespace: far.clone(), interface: interface.into() } })
}
