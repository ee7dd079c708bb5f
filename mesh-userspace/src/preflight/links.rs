//! The host's interfaces, as the kernel tells of them over netlink: the same in every network namespace, whatever
//! `/sys` shows.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp};
use tokio_util::task::AbortOnDropHandle;

use crate::nexthop::{Link, link};

/// An interface, as far as it matters to XDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) link: Link,
    /// What made it; `None`: a driver of hardware.
    pub(super) kind: Option<InfoKind>,
    /// The bridge, bond or VRF that it belongs to.
    pub(super) master: Option<u32>,
    /// What it lies upon, as a VLAN device does on its trunk.
    pub(super) below: Option<u32>,
    /// The ids of XDP programs that are attached to it.
    pub(super) xdp: Vec<u32>,
    /// Bytes of the longest frame that the stack merges.
    pub(super) gro_max_size: Option<u32>,
}

/// By number.
pub(super) type Ports = BTreeMap<u32, Port>;

/// All interfaces of this network namespace.
pub(super) async fn read() -> anyhow::Result<Ports> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    Ok(messages.iter().map(port).collect())
}

/// The interface of a name.
pub(super) fn named<'a>(ports: &'a Ports, name: &str) -> Option<(u32, &'a Port)> {
    ports.iter().find(|(_, port)| port.link.name == name).map(|(index, port)| (*index, port))
}

fn port(message: &LinkMessage) -> (u32, Port) {
    let (index, link) = link(message);
    let mut port = Port { link, kind: None, master: None, below: None, xdp: Vec::new(), gro_max_size: None };
    for attribute in &message.attributes {
        describe(&mut port, attribute);
    }
    // A veth names its far end, which is often in another namespace and nothing that it lies upon.
    port.below = port.below.filter(|below| *below != index && port.kind != Some(InfoKind::Veth));
    (index, port)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kernel has many attributes, few matter here")]
fn describe(port: &mut Port, attribute: &LinkAttribute) {
    match attribute {
        LinkAttribute::Controller(index) => port.master = Some(*index),
        LinkAttribute::Link(index) => port.below = Some(*index),
        LinkAttribute::GroMaxSize(bytes) => port.gro_max_size = Some(*bytes),
        LinkAttribute::Xdp(facts) => port.xdp = facts.iter().filter_map(program).collect(),
        LinkAttribute::LinkInfo(facts) => port.kind = facts.iter().find_map(kind),
        _ => {}
    }
}

fn kind(fact: &LinkInfo) -> Option<InfoKind> {
    if let LinkInfo::Kind(kind) = fact { Some(kind.clone()) } else { None }
}

/// The kernel also says "the" program, which is one of these.
fn program(fact: &LinkXdp) -> Option<u32> {
    if let LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) = fact {
        Some(*id)
    } else {
        None
    }
}
