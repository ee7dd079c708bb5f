//! The conversation with the kernel: one netlink socket that asks, and hears of changes.
//!
//! Invariant: an answer is complete or it is an error; a dump that did not end with "done" is thrown away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup as Group;
use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::sys::AsyncSocket;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::follow::{Session, Source};
use super::model::{Hop, Link, Lookup, Neighbour, Snapshot};
use super::{NextHopError, message};

/// The kernel answers from memory; longer means that the answer was lost.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
const DUMP_TIMEOUT: Duration = Duration::from_secs(10);
/// Lookups under way at once: their answers must fit into the socket's receive buffer.
const LOOKUPS_AT_ONCE: usize = 16;
/// Bytes; the kernel cuts it to `net.core.rmem_max`.
const RECEIVE_BUFFER: i32 = 1 << 20;
/// Everything that can change where a packet goes.
const GROUPS: &[Group] = &[
    Group::Neigh,
    Group::Link,
    Group::Ipv4Route,
    Group::Ipv6Route,
    Group::Ipv4Rule,
    Group::Ipv6Rule,
    Group::Ipv4Ifaddr,
    Group::Ipv6Ifaddr,
];

/// The kernel of the network namespace that the opening thread is in.
#[derive(Debug)]
pub(super) struct Kernel;

impl Source for Kernel {
    type Session = Netlink;

    async fn open(&mut self) -> Result<Netlink, NextHopError> {
        let (mut connection, handle, mut messages) = rtnetlink::new_multicast_connection(GROUPS)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER)?;
        connection.set_forward_done(true);
        let (changed, changes) = watch::channel(());
        // Messages are drained as they come, whatever else goes on: only the fact of a change is kept.
        let task = tokio::spawn(async move {
            let drain = async {
                while messages.next().await.is_some() {
                    changed.send_replace(());
                }
            };
            tokio::select! { () = connection => {}, () = drain => {} }
        });
        Ok(Netlink { handle, changes, _task: AbortOnDropHandle::new(task) })
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Netlink {
    handle: rtnetlink::Handle,
    /// Closed when the connection is lost.
    changes: watch::Receiver<()>,
    _task: AbortOnDropHandle<()>,
}

impl Session for Netlink {
    async fn snapshot(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<Snapshot, NextHopError> {
        if wanted.is_empty() {
            return Ok(Snapshot::default());
        }
        let lookups = self.lookups(wanted).await?;
        let mut snapshot = Snapshot { lookups, links: self.links().await?, neighbours: BTreeMap::new() };
        snapshot.neighbours = self.neighbours(&snapshot.hops()).await?;
        Ok(snapshot)
    }

    async fn ask_for(&mut self, hop: Hop) -> Result<(), NextHopError> {
        let what = "a neighbour's resolution";
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut answers = self.request(message::use_neighbour(hop), flags)?;
        match timeout(LOOKUP_TIMEOUT, answers.next()).await {
            Ok(Some(NetlinkPayload::Error(error))) if error.code.is_some() => Err(refusal(what, &error)),
            Ok(_) => Ok(()),
            Err(_) => Err(NextHopError::Unanswered { what, after: LOOKUP_TIMEOUT }),
        }
    }

    async fn changed(&mut self) -> Result<(), NextHopError> {
        self.changes.changed().await.or(Err(NextHopError::Ended))
    }

    fn mark_unchanged(&mut self) {
        self.changes.mark_unchanged();
    }
}

type Payload = NetlinkPayload<RouteNetlinkMessage>;

impl Netlink {
    fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<impl stream::Stream<Item = Payload> + Unpin + use<>, NextHopError> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        let answers = self.handle.clone().request(message).or(Err(NextHopError::Ended))?;
        Ok(Box::pin(answers.map(|answer| answer.payload)))
    }

    async fn lookups(&self, wanted: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Lookup>, NextHopError> {
        stream::iter(wanted.iter().copied())
            .map(|address| self.lookup(address))
            .buffer_unordered(LOOKUPS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn lookup(&self, address: IpAddr) -> Result<(IpAddr, Lookup), NextHopError> {
        let mut answers = self.request(message::get_route(address), NLM_F_REQUEST)?;
        match timeout(LOOKUP_TIMEOUT, answers.next()).await {
            Ok(Some(answer)) => Ok((address, lookup(answer))),
            Ok(None) => Err(NextHopError::Ended),
            Err(_) => Ok((address, Lookup::Unanswered(LOOKUP_TIMEOUT))),
        }
    }

    async fn links(&self) -> Result<BTreeMap<u32, Link>, NextHopError> {
        let mut links = BTreeMap::new();
        self.dump("the interfaces", message::get_links(), |answer| {
            if let RouteNetlinkMessage::NewLink(answer) = answer {
                links.extend([message::link(&answer)]);
            }
        })
        .await?;
        Ok(links)
    }

    async fn neighbours(&self, hops: &BTreeSet<Hop>) -> Result<BTreeMap<Hop, Neighbour>, NextHopError> {
        let mut neighbours = BTreeMap::new();
        self.dump("the neighbours", message::get_neighbours(), |answer| {
            if let RouteNetlinkMessage::NewNeighbour(answer) = answer {
                neighbours.extend(message::neighbour(&answer).filter(|(hop, _)| hops.contains(hop)));
            }
        })
        .await?;
        Ok(neighbours)
    }

    async fn dump(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
        each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), NextHopError> {
        let answers = self.request(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        let complete = timeout(DUMP_TIMEOUT, read_dump(what, answers, each)).await;
        complete.unwrap_or(Err(NextHopError::Unanswered { what, after: DUMP_TIMEOUT }))
    }
}

async fn read_dump(
    what: &'static str,
    mut answers: impl stream::Stream<Item = Payload> + Unpin,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> Result<(), NextHopError> {
    while let Some(answer) = answers.next().await {
        match answer {
            NetlinkPayload::InnerMessage(answer) => each(answer),
            NetlinkPayload::Done(_) => return Ok(()),
            NetlinkPayload::Error(error) => return Err(refusal(what, &error)),
            NetlinkPayload::Noop | NetlinkPayload::Overrun(_) | _ => {}
        }
    }
    Err(NextHopError::Ended)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "anything else is no answer to a lookup")]
fn lookup(answer: Payload) -> Lookup {
    match answer {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
            message::route(&route).map_or(Lookup::Unanswered(LOOKUP_TIMEOUT), Lookup::Route)
        }
        NetlinkPayload::Error(error) => Lookup::Refused(errno(&error)),
        _ => Lookup::Unanswered(LOOKUP_TIMEOUT),
    }
}

fn refusal(what: &'static str, error: &ErrorMessage) -> NextHopError {
    NextHopError::Refused { what, source: io::Error::from_raw_os_error(errno(error)) }
}

/// Positive, 0 for "no error".
fn errno(error: &ErrorMessage) -> i32 {
    error.code.map_or(0, |code| code.get().saturating_abs())
}
