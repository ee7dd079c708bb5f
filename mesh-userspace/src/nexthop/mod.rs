//! Where packets to a backend leave this host: interface, addresses and MTU, kept true from the kernel.
//!
//! The kernel's own routing decides: each wanted address is looked up as if this host sent to it, its
//! neighbour is resolved by the kernel too, and both are followed through netlink multicast.
//!
//! Invariants: nothing is published that was read from an incomplete answer; a lost connection keeps what was
//! published last; a neighbour that stops answering keeps its address as long as the route to it stays (health
//! probes decide whether the backend is used).

mod follow;
mod message;
mod model;
mod netlink;
mod obstacle;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use follow::{Follower, Source};
pub(crate) use message::link;
pub(crate) use model::Link;

/// An Ethernet address in the order of the wire.
pub type Mac = [u8; 6];

/// How a packet to one backend leaves this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The interface it leaves through.
    pub ifindex: u32,
    /// The address this host uses towards the backend.
    pub source: IpAddr,
    /// The Ethernet address of that interface.
    pub source_mac: Mac,
    /// The Ethernet address of the backend, or of the gateway towards it.
    pub destination_mac: Mac,
    /// Bytes of IP packet that fit: the route's MTU if it has one, never more than the interface's.
    pub mtu: u32,
    /// Whether the backend itself is the neighbour: no router is on the way.
    pub direct: bool,
    /// Whether the backend is this host itself.
    pub is_here: bool,
}

#[cfg(test)]
impl NextHop {
    /// A neighbour on an Ethernet link, for tests that do not care which.
    pub(crate) fn some() -> Self {
        Self {
            ifindex: 2,
            source: [10, 0, 0, 9].into(),
            source_mac: [1; 6],
            destination_mac: [2; 6],
            mtu: 1500,
            direct: true,
            is_here: false,
        }
    }
}

/// What is known about the way to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Packets can be sent.
    Resolved(NextHop),
    /// Packets cannot be sent (yet).
    Unresolved {
        /// Why, for people.
        reason: String,
        /// What to do about it.
        remedy: String,
        /// Whether it is because the address is one of this host's own.
        is_local: bool,
    },
}

impl Resolution {
    /// Whether the address is one of this host's own.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Unresolved { is_local: true, .. })
    }
}

/// The connection to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NextHopError {
    /// No netlink socket.
    #[error("could not open a netlink socket: {source}")]
    Open {
        /// The operating system's reason.
        #[from]
        source: io::Error,
    },
    /// The socket was closed, or its task ended.
    #[error("the netlink connection ended")]
    Ended,
    /// No answer.
    #[error("the kernel did not answer a request for {what} within {after:?}")]
    Unanswered {
        /// What was asked for.
        what: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The kernel refused.
    #[error("the kernel refused a request for {what}: {source}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Follows the next hops of the wanted addresses until it is dropped.
#[derive(Debug)]
pub struct Resolver {
    wanted: watch::Sender<BTreeSet<IpAddr>>,
    _task: AbortOnDropHandle<()>,
}

impl Resolver {
    /// Connects to the kernel, in the network namespace of the calling thread, and starts following.
    ///
    /// # Errors
    /// The connection could not be opened. Later losses are retried, never reported.
    pub async fn start(tx: watch::Sender<BTreeMap<IpAddr, Resolution>>) -> Result<Self, NextHopError> {
        Self::start_with(netlink::Kernel, tx).await
    }

    /// Replaces the set of addresses that are followed. Results appear in the watch channel given to `start`.
    pub fn want(&self, addresses: BTreeSet<IpAddr>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != addresses;
            *wanted = addresses;
            changed
        });
    }

    async fn start_with<S: Source>(
        mut source: S,
        tx: watch::Sender<BTreeMap<IpAddr, Resolution>>,
    ) -> Result<Self, NextHopError> {
        let session = source.open().await?;
        let (wanted, changes) = watch::channel(BTreeSet::new());
        let task = tokio::spawn(Follower::new(source, changes, tx).run(session));
        Ok(Self { wanted, _task: AbortOnDropHandle::new(task) })
    }
}
