//! Leads packets with the mark to the device: a table with one route to it, and a rule that leads there, per family.
//!
//! Invariant: rules are ours by their protocol, and name one mark each.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use nix::errno::Errno;
use rtnetlink::{Error, Handle, IpVersion, LinkUnspec, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// What the rules and routes say of who made them (`rtm_protocol`): a number that no routing daemon has.
const OURS: RouteProtocol = RouteProtocol::Other(0x6d);

/// Tables from this number on are for devices of ours, by mark.
const TABLES: u32 = 0x6d65_0000;

/// Before all rules that usual software adds, behind that of this host's own addresses.
const PRIORITY: u32 = 100;

/// Bytes: no packet is too long for the device; the way to its backend decides.
const MTU: u32 = 65_535;

const FAMILIES: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];

/// Why packets are not led to the device.
#[derive(Debug, thiserror::Error)]
pub(in crate::health) enum RoutingError {
    /// No netlink socket.
    #[error("could not open a netlink socket: {0}")]
    Open(#[from] std::io::Error),
    /// The kernel refused.
    #[error("the kernel refused {what} for probes to VIPs: {source}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// The reason.
        source: Error,
    },
}

/// What leads to one device.
#[derive(Debug)]
pub(super) struct Routing {
    handle: Handle,
    ifindex: u32,
    mark: u32,
    _connection: AbortOnDropHandle<()>,
}

impl Routing {
    /// Connects to the kernel.
    pub(super) fn open(ifindex: u32, mark: u32) -> Result<Self, RoutingError> {
        let (handle, _connection) = connect()?;
        Ok(Self { handle, ifindex, mark, _connection })
    }

    /// Sets the device up, leads packets to it, and answers of which families. A host may have no IPv6.
    pub(super) async fn begin(&self) -> Result<Vec<IpVersion>, RoutingError> {
        remove(&self.handle, Some(self.mark)).await?;
        let link = LinkUnspec::new_with_index(self.ifindex).mtu(MTU).up().build();
        let up = self.handle.link().set(link).execute().await;
        up.map_err(|source| RoutingError::Refused { what: "a device", source })?;
        self.lead(&IpVersion::V4).await?;
        if let Err(error) = self.lead(&IpVersion::V6).await {
            warn!(%error, "there are no probes to IPv6 VIPs");
            return Ok(vec![IpVersion::V4]);
        }
        Ok(FAMILIES.into())
    }

    /// Makes good what others removed.
    pub(super) async fn renew(&self, families: &[IpVersion]) -> Result<(), RoutingError> {
        for family in families {
            self.lead(family).await?;
        }
        Ok(())
    }

    /// The route first: until the rule leads there, the mark means nothing.
    async fn lead(&self, family: &IpVersion) -> Result<(), RoutingError> {
        let route = self.handle.route().add(self.route(family)).replace().execute().await;
        route.map_err(|source| RoutingError::Refused { what: "a route", source })?;
        let rule = self.handle.rule().add().fw_mark(self.mark).table_id(table(self.mark));
        let rule = rule.action(RuleAction::ToTable).priority(PRIORITY);
        let mut rule = match family {
            IpVersion::V4 => rule.v4().execute_as_ours().await,
            IpVersion::V6 => rule.v6().execute_as_ours().await,
        };
        if rule.as_ref().is_err_and(|error| is(error, &[Errno::EEXIST])) {
            rule = Ok(());
        }
        rule.map_err(|source| RoutingError::Refused { what: "a rule", source })
    }

    fn route(&self, family: &IpVersion) -> RouteMessage {
        let (table, ifindex) = (table(self.mark), self.ifindex);
        match family {
            IpVersion::V4 => RouteMessageBuilder::<Ipv4Addr>::new()
                .output_interface(ifindex)
                .table_id(table)
                .scope(RouteScope::Link)
                .protocol(OURS)
                .build(),
            IpVersion::V6 => RouteMessageBuilder::<Ipv6Addr>::new()
                .output_interface(ifindex)
                .table_id(table)
                .protocol(OURS)
                .build(),
        }
    }
}

/// The table of a mark.
const fn table(mark: u32) -> u32 {
    TABLES | mark & 0xffff
}

/// Adds a rule that says whose it is.
trait ExecuteAsOurs {
    fn execute_as_ours(self) -> impl Future<Output = Result<(), Error>>;
}

impl<T> ExecuteAsOurs for rtnetlink::RuleAddRequest<T> {
    async fn execute_as_ours(mut self) -> Result<(), Error> {
        self.message_mut().attributes.push(RuleAttribute::Protocol(OURS));
        self.execute().await
    }
}

fn connect() -> Result<(Handle, AbortOnDropHandle<()>), RoutingError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    Ok((handle, AbortOnDropHandle::new(tokio::spawn(connection))))
}

/// Removes the rules of a mark, or of every agent that there was. Blocks its thread.
///
/// # Errors
/// The kernel refused.
pub fn remove_rules(mark: Option<u32>) -> anyhow::Result<()> {
    let removed = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (handle, _connection) = connect()?;
            anyhow::Ok(remove(&handle, mark).await?)
        })
    };
    // The caller's thread may have a runtime already.
    let removed = std::thread::scope(|scope| scope.spawn(removed).join());
    removed.unwrap_or_else(|_panicked| Err(anyhow::anyhow!("could not remove rules of policy routing")))
}

async fn remove(handle: &Handle, mark: Option<u32>) -> Result<(), RoutingError> {
    for family in FAMILIES {
        let refused = |source| RoutingError::Refused { what: "the rules", source };
        let rules: Vec<_> = match handle.rule().get(family).execute().try_collect().await {
            // The kernel has no such family, or no policy routing.
            Err(error) if is(&error, &[Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP]) => continue,
            rules => rules.map_err(refused)?,
        };
        for rule in rules.into_iter().filter(|rule| is_ours(rule, mark)) {
            handle.rule().del(rule).execute().await.map_err(refused)?;
        }
    }
    Ok(())
}

/// Whether the kernel's refusal is one of these.
fn is(error: &Error, errors: &[Errno]) -> bool {
    let Error::NetlinkError(refusal) = error else { return false };
    errors.iter().any(|errno| refusal.raw_code().checked_neg() == Some(*errno as i32))
}

fn is_ours(rule: &RuleMessage, mark: Option<u32>) -> bool {
    let has = |attribute: &RuleAttribute| rule.attributes.contains(attribute);
    let is_our_table = |attribute: &RuleAttribute| matches!(attribute, RuleAttribute::Table(table) if table & !0xffff == TABLES);
    has(&RuleAttribute::Protocol(OURS))
        && rule.attributes.iter().any(is_our_table)
        && mark.is_none_or(|mark| has(&RuleAttribute::FwMark(mark)))
}
