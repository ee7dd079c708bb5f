//! The way to backends on this host itself: a pair of devices.
//!
//! ```text
//! client's packet:  eth0 → translated, redirected → meshlb-local ═ meshlb-host → this host's stack
//! backend's answer: this host's stack → meshlb-host ═ meshlb-local → translated back, redirected → eth0
//! ```
//!
//! Translated packets come from an address that nobody has and that leads to the pair, so that answers come back by the
//! program at its near end, as those of any backend do.
//!
//! Invariants: the pair outlives the agent, as the program does, and the next agent finds it by its names; making it again
//! changes nothing that is right.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::{RouteProtocol, RouteScope};
use nix::errno::Errno;
use rtnetlink::{Error, Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::ethtool::{self, Feature};
use crate::nexthop::{self, Link, Mac, NextHop};

/// The near end, which the program is attached to.
pub const NEAR: &str = "meshlb-local";

/// The far end, by which packets come into this host.
const FAR: &str = "meshlb-host";

/// What packets come from: link-local (RFC 3927), and unique local (RFC 4193) with "meshl" in the place of chance.
const SOURCE4: Ipv4Addr = Ipv4Addr::new(169, 254, 109, 108);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6573, 0x686c, 0, 0, 0, 0, 1);

/// What routes say of who made them (`rtm_protocol`): a number that no routing daemon has.
const OURS: RouteProtocol = RouteProtocol::Other(0x6d);

/// Bytes of packet that Ethernet takes, for interfaces that are gone.
const USUAL: u32 = 1500;

/// Why there is no way to backends on this host.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No netlink socket.
    #[error("could not open a netlink socket: {0}")]
    Open(#[from] io::Error),
    /// The kernel refused.
    #[error("the kernel refused {what} for backends on this host: {source}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// The reason.
        source: Error,
    },
    /// The device cannot be set.
    #[error("could not switch {what} of {FAR}: {source}")]
    Feature {
        /// What was to be switched.
        what: Feature,
        /// The reason.
        source: io::Error,
    },
    /// Somebody else's device has the name.
    #[error("{0} is no end of a pair of devices of ours; rename it: ip link set {0} name NAME")]
    Taken(&'static str),
}

/// The way to addresses of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalWay {
    /// The near end.
    ifindex: u32,
    near: Mac,
    far: Mac,
    mtu: u32,
    /// Whether the host has IPv6.
    ipv6: bool,
}

impl LocalWay {
    /// Makes the pair, or makes good what of it is missing. Its packets are no longer than these interfaces take. Blocks its
    /// thread.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or others have devices of these names.
    pub fn open(interfaces: &[String]) -> Result<Self, LocalError> {
        block_on(async {
            let (handle, _connection) = connect()?;
            let mtu = smallest(&handle, interfaces).await?;
            let [near, far] = pair(&handle).await?;
            begin(&handle, near.0, mtu).await?;
            begin(&handle, far.0, mtu).await?;
            prepare()?;
            let mac = |link: &Link| link.mac.unwrap_or_default();
            let mut way = Self { ifindex: near.0, near: mac(&near.1), far: mac(&far.1), mtu, ipv6: true };
            lead(&handle, far.0, way.near, SOURCE4.into()).await?;
            if let Err(error) = lead(&handle, far.0, way.near, SOURCE6.into()).await {
                warn!(%error, "backends on this host are reached over IPv4 alone");
                way.ipv6 = false;
            }
            Ok(way)
        })
    }

    /// How packets reach an address of this host.
    #[must_use]
    pub fn hop(&self, address: IpAddr) -> Option<NextHop> {
        let source = match address {
            IpAddr::V4(_) => SOURCE4.into(),
            IpAddr::V6(_) if self.ipv6 => SOURCE6.into(),
            IpAddr::V6(_) => return None,
        };
        let Self { ifindex, near: source_mac, far: destination_mac, mtu, .. } = *self;
        Some(NextHop { ifindex, source, source_mac, destination_mac, mtu, direct: true, is_here: true })
    }

    /// One of an index, for tests that need no devices.
    #[cfg(test)]
    pub(crate) const fn some(ifindex: u32) -> Self {
        Self { ifindex, near: [1; 6], far: [2; 6], mtu: 1500, ipv6: true }
    }
}

/// Removes the pair, if there is one. Blocks its thread.
///
/// # Errors
///
/// The kernel refused.
pub fn remove() -> Result<(), LocalError> {
    block_on(async {
        let (handle, _connection) = connect()?;
        let Some(near) = find(&handle, NEAR).await?.filter(is_pair) else { return Ok(()) };
        let removed = handle.link().del(near.header.index).execute().await;
        removed.map_err(|source| LocalError::Refused { what: "the end of a pair of devices", source })
    })
}

/// Runs something of tokio's on a thread of its own: that of the caller may have a runtime already.
fn block_on<T: Send>(future: impl Future<Output = Result<T, LocalError>> + Send) -> Result<T, LocalError> {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future);
    let done = std::thread::scope(|scope| scope.spawn(run).join());
    done.unwrap_or_else(|_panicked| Err(io::Error::other("the thread for it ended").into()))
}

fn connect() -> Result<(Handle, AbortOnDropHandle<()>), LocalError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    Ok((handle, AbortOnDropHandle::new(tokio::spawn(connection))))
}

/// The smallest of these interfaces' MTUs.
async fn smallest(handle: &Handle, interfaces: &[String]) -> Result<u32, LocalError> {
    let mut mtu = None;
    for interface in interfaces {
        if let Some(found) = find(handle, interface).await? {
            let (_, link) = nexthop::link(&found);
            mtu = Some(mtu.map_or(link.mtu, |least: u32| least.min(link.mtu)));
        }
    }
    Ok(mtu.unwrap_or(USUAL))
}

/// The two ends, near and far.
async fn pair(handle: &Handle) -> Result<[(u32, Link); 2], LocalError> {
    if find(handle, NEAR).await?.is_none() {
        let made = handle.link().add(LinkVeth::new(NEAR, FAR).build()).execute().await;
        made.map_err(|source| LocalError::Refused { what: "a pair of devices (veth)", source })?;
        info!(near = NEAR, far = FAR, "packets for backends on this host go by a pair of devices");
    }
    Ok([end(handle, NEAR).await?, end(handle, FAR).await?])
}

async fn end(handle: &Handle, name: &'static str) -> Result<(u32, Link), LocalError> {
    let found = find(handle, name).await?.filter(is_pair).ok_or(LocalError::Taken(name))?;
    Ok(nexthop::link(&found))
}

async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, LocalError> {
    match handle.link().get().match_name(name).execute().try_next().await {
        Err(Error::NetlinkError(refusal)) if refusal.raw_code() == -(Errno::ENODEV as i32) => Ok(None),
        found => found.map_err(|source| LocalError::Refused { what: "to describe an interface", source }),
    }
}

fn is_pair(message: &LinkMessage) -> bool {
    let is_veth = |info: &LinkInfo| *info == LinkInfo::Kind(InfoKind::Veth);
    let mut attributes = message.attributes.iter();
    attributes.any(|it| matches!(it, LinkAttribute::LinkInfo(infos) if infos.iter().any(is_veth)))
}

async fn begin(handle: &Handle, ifindex: u32, mtu: u32) -> Result<(), LocalError> {
    let link = LinkUnspec::new_with_index(ifindex).mtu(mtu).up().build();
    let set = handle.link().set(link).execute().await;
    set.map_err(|source| LocalError::Refused { what: "to set up a device", source })
}

/// Packets have whole checksums and the length that is sent when the program sees them; and the far end takes what native XDP
/// redirects to it, which it does only where it may merge packets (kernel 6.1).
fn prepare() -> Result<(), LocalError> {
    for (what, is_on) in
        [(Feature::Segmentation, false), (Feature::Checksums, false), (Feature::Merging, true)]
    {
        ethtool::switch(FAR, what, is_on).map_err(|source| LocalError::Feature { what, source })?;
    }
    Ok(())
}

/// Leads packets for an address to the near end.
async fn lead(handle: &Handle, far: u32, near: Mac, address: IpAddr) -> Result<(), LocalError> {
    let neighbour = handle.neighbours().add(far, address).link_layer_address(&near);
    let known = neighbour.state(NeighbourState::Permanent).replace().execute().await;
    known.map_err(|source| LocalError::Refused { what: "a neighbour", source })?;
    let route = match address {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .output_interface(far)
            .scope(RouteScope::Link)
            .protocol(OURS)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .output_interface(far)
            .protocol(OURS)
            .build(),
    };
    let led = handle.route().add(route).replace().execute().await;
    led.map_err(|source| LocalError::Refused { what: "a route", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_from_an_address_of_the_backends_family() {
        let way = LocalWay::some(7);
        for address in [IpAddr::from([10, 0, 0, 1]), "2001:db8::1".parse().unwrap()] {
            let hop = way.hop(address).unwrap();
            assert_eq!((hop.ifindex, hop.source.is_ipv4(), hop.is_here), (7, address.is_ipv4(), true));
        }
        let old = LocalWay { ipv6: false, ..way };
        assert!(old.hop([10, 0, 0, 1].into()).is_some() && old.hop("2001:db8::1".parse().unwrap()).is_none());
    }
}
