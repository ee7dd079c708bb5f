//! Why packets cannot be sent to an address, in words for the person who has to repair it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// What stands between this host and an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    /// ENETUNREACH, and nothing is known of an earlier way.
    #[error("no route to {address}")]
    NoRoute { address: IpAddr },
    /// The way that was used before left with its interface.
    #[error("no route to {address}: interface {interface} is down")]
    NoRouteSince { address: IpAddr, interface: String },
    /// Someone configured that packets shall not go there.
    #[error("the route to {address} is of type {kind}")]
    RouteType { address: IpAddr, kind: &'static str },
    /// Traffic to oneself passes no Ethernet.
    #[error("{address} is an address of this host")]
    Local { address: IpAddr },
    /// A broadcast or multicast address.
    #[error("{address} is not the address of one host, but {kind}")]
    Group { address: IpAddr, kind: &'static str },
    /// A light-weight tunnel: rewriting Ethernet addresses is not enough.
    #[error("the route to {address} encapsulates packets, which is not supported")]
    Encapsulated { address: IpAddr },
    /// The route names an interface that the dump did not have.
    #[error("the route to {address} leaves through interface {ifindex}, which does not exist")]
    NoInterface { address: IpAddr, ifindex: u32 },
    /// Administratively down.
    #[error("interface {interface} is down")]
    Down { interface: String },
    /// Administratively up, but not running.
    #[error("interface {interface} is down: no carrier")]
    NoCarrier { interface: String },
    /// lo, tun and the like.
    #[error("interface {interface} has no Ethernet address")]
    NoEthernet { interface: String },
    /// No address of this host can be used as the source.
    #[error("this host has no address to reach {address} from")]
    NoSource { address: IpAddr },
    /// The kernel is asking.
    #[error("waiting for neighbour {neighbour} on {interface} to answer")]
    Waiting { neighbour: IpAddr, interface: String },
    /// The kernel asked in vain.
    #[error("neighbour {neighbour} on {interface} does not answer")]
    Silent { neighbour: IpAddr, interface: String },
    /// Any other refusal.
    #[error("the kernel refused to look up the route to {address}: {}", io::Error::from_raw_os_error(*errno))]
    Refused { address: IpAddr, errno: i32 },
    /// The lookup's answer was lost, or could not be understood.
    #[error("the kernel did not answer the lookup of the route to {address} within {after:?}")]
    Unanswered { address: IpAddr, after: Duration },
}

impl Obstacle {
    /// Part of every start, and over within milliseconds or turned into [`Obstacle::Silent`].
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    /// What to do about it, in one line.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::NoRoute { address } => format!("ip route add {address} via GATEWAY"),
            Self::NoRouteSince { interface, .. } => {
                format!("ip link set {interface} up, and give the route back")
            }
            Self::RouteType { address, kind } => {
                format!("ip route show type {kind}; remove that to {address}")
            }
            Self::Local { .. } => {
                "only `forward = \"nat\"` reaches backends on the balancer itself: give another's address"
                    .to_owned()
            }
            Self::Group { .. } => "correct the backend's address".to_owned(),
            Self::Encapsulated { address } => format!("ip route get {address}; give it a plain route"),
            Self::Down { interface } => format!("ip link set {interface} up"),
            Self::NoCarrier { interface } => {
                format!("look at the cable of {interface}, and at its other end")
            }
            Self::NoEthernet { interface } => {
                format!("backends are reached by Ethernet, {interface} is none: give them another route")
            }
            Self::NoSource { .. } => "give this host an address of the backend's family".to_owned(),
            Self::Waiting { neighbour, interface } | Self::Silent { neighbour, interface } => {
                format!(
                    "is {neighbour} on, and on the link of {interface}? if it is not, correct address or route"
                )
            }
            Self::NoInterface { address, .. }
            | Self::Refused { address, .. }
            | Self::Unanswered { address, .. } => format!("ip route get {address}"),
        }
    }
}
