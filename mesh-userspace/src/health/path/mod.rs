//! The path of probes that go to the VIP: to one backend, wrapped as packets of clients are.
//!
//! The kernel's own sockets ask. Theirs have a mark, by which a rule of policy routing leads what they send to a device of
//! the agent's own; the agent puts in front what the kernel program would, and sends the frame off. The answer comes from
//! the VIP to this host's address, as it comes to any client.
//!
//! Invariants: only packets of sockets with the mark take this path; each reaches the backend that its socket is
//! registered for, or nobody; what did not take the path says nothing of a backend. The device and the routes to it end
//! with the process; a rule that a killed agent leaves leads nowhere.

mod device;
mod frame;
mod routing;
mod syscalls;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mesh_common::abi::{BackendEntry, protocol};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_indextoname;
use socket2::SockRef;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::{Answer, Key, ProbeError};
use crate::dataplane::backend_entry;
use crate::delivery::Delivery;
use crate::nexthop::{NextHop, Resolution};
use device::{Asker, Device, DeviceError, Flight};
pub use routing::remove_rules;

/// Hops of a probe's packets: one that its backend does not take for its own ends there, instead of finding its way
/// to another backend.
const HOPS: u32 = 1;

/// Bytes of a client's longest packets, if nothing else is asked for.
const USUAL: u16 = 1500;

/// Bytes of headers that a TCP segment's length leaves out: IPv4 or IPv6, and TCP.
const HEADERS: [u16; 2] = [40, 60];

/// What the kernel takes for the length of a segment (`TCP_MIN_MSS`, `MAX_TCP_WINDOW`, include/net/tcp.h).
const SEGMENTS: std::ops::RangeInclusive<u32> = 88..=32_767;

/// The paths to all backends.
#[derive(Debug, Clone)]
pub struct Paths(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    mark: u32,
    /// Made when it is first needed, and again when it was removed.
    device: Mutex<Option<Arc<Device>>>,
    deliveries: RwLock<BTreeMap<Key, Delivery>>,
    next_hops: watch::Receiver<BTreeMap<IpAddr, Resolution>>,
}

impl Paths {
    /// Knows nobody yet. Sockets have this mark; the device is made when it is first needed.
    #[must_use]
    pub fn new(mark: u32, next_hops: watch::Receiver<BTreeMap<IpAddr, Resolution>>) -> Self {
        let deliveries = RwLock::default();
        Self(Arc::new(Shared { mark, device: Mutex::default(), deliveries, next_hops }))
    }

    /// How packets reach backends from now on.
    pub fn deliver(&self, deliveries: BTreeMap<Key, Delivery>) {
        *self.0.deliveries.write().unwrap_or_else(PoisonError::into_inner) = deliveries;
    }

    /// The path to a backend, for one probe. Waits for the way to it as long as `patience` says.
    pub(crate) async fn to(&self, key: Key, patience: Duration, padded: bool) -> Result<Path, ProbeError> {
        let local = |reason: String| ProbeError::Local { reason };
        let delivery = self.0.deliveries.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let delivery = delivery.ok_or_else(|| local("the backend's service is gone".to_owned()))?;
        let hop = self.way(key.address, patience).await.map_err(local)?;
        if !delivery.forward.reaches(&hop) {
            return Err(local(format!(
                "{} is behind a router, which direct return cannot pass",
                key.address
            )));
        }
        let source = source(key.service.vip.network(), &hop).map_err(local)?;
        let device = self.device().await.map_err(|error| local(error.to_string()))?;
        Ok(Path {
            device,
            // The id matters to the kernel's flow table alone.
            entry: backend_entry(0, key.service, key.address, &delivery, &hop),
            vip: key.service.vip.network(),
            source,
            padded,
            way: format!("by {} to {}", delivery.forward, key.address),
            carried: Arc::default(),
        })
    }

    async fn device(&self) -> Result<Arc<Device>, DeviceError> {
        let mut device = self.0.device.lock().await;
        if let Some(device) = device.as_ref().filter(|device| device.is_there()) {
            return Ok(Arc::clone(device));
        }
        // The old one's name is free only once it is gone.
        *device = None;
        Ok(Arc::clone(device.insert(Device::open(self.0.mark).await?)))
    }

    /// How packets to a backend leave this host.
    async fn way(&self, backend: IpAddr, patience: Duration) -> Result<NextHop, String> {
        let mut next_hops = self.0.next_hops.clone();
        let known = |hops: &BTreeMap<IpAddr, Resolution>| match hops.get(&backend) {
            Some(Resolution::Resolved(hop)) => Some(*hop),
            Some(Resolution::Unresolved { .. }) | None => None,
        };
        let found = timeout(patience, next_hops.wait_for(|hops| known(hops).is_some())).await;
        let found = found.ok().and_then(Result::ok).and_then(|hops| known(&hops));
        found.ok_or_else(|| match self.0.next_hops.borrow().get(&backend) {
            Some(Resolution::Unresolved { reason, .. }) => format!("{backend} cannot be reached: {reason}"),
            Some(Resolution::Resolved(_)) | None => format!("the way to {backend} is not known yet"),
        })
    }
}

/// This host's own address, of the VIP's family, on the interface towards the backend.
fn source(vip: IpAddr, hop: &NextHop) -> Result<IpAddr, String> {
    if vip.is_ipv4() == hop.source.is_ipv4() {
        return Ok(hop.source);
    }
    let name = if_indextoname(hop.ifindex).map_err(|error| error.to_string())?;
    let name = name.to_string_lossy();
    let here = getifaddrs().map_err(|error| error.to_string())?.filter(|one| one.interface_name == *name);
    let mut addresses = here.filter_map(|one| address(&one)).filter(|own| own.is_ipv4() == vip.is_ipv4());
    let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
    addresses.next().ok_or_else(|| format!("interface {name} has no {family} address to ask {vip} from"))
}

/// An address that others can answer.
fn address(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    let v6 = address.as_sockaddr_in6().map(|address| address.ip());
    v4.or_else(|| v6.filter(|address| !address.is_unicast_link_local()).map(IpAddr::V6))
}

/// The path of one probe's packets.
#[derive(Debug)]
pub struct Path {
    device: Arc<Device>,
    entry: BackendEntry,
    /// Whom clients ask, and so the probe.
    pub(super) vip: IpAddr,
    source: IpAddr,
    padded: bool,
    /// Which way that is, for people.
    way: String,
    carried: Arc<AtomicBool>,
}

impl Path {
    /// Has a socket that is not connected yet take this path; it asks over TCP.
    pub(super) fn lead_stream(&self, socket: SockRef<'_>) -> io::Result<()> {
        let [headers4, headers6] = HEADERS;
        let headers = if self.vip.is_ipv4() { headers4 } else { headers6 };
        let longest = if self.padded { self.entry.room } else { self.entry.room.min(USUAL) };
        let segment = u32::from(longest.saturating_sub(headers));
        socket.set_tcp_mss(segment.clamp(*SEGMENTS.start(), *SEGMENTS.end()))?;
        self.lead(&socket, protocol::TCP)
    }

    /// As [`Self::lead_stream`], for datagrams.
    pub(super) fn lead_datagrams(&self, socket: SockRef<'_>) -> io::Result<()> {
        self.lead(&socket, protocol::UDP)
    }

    /// As [`Self::lead_stream`], for echo requests with this identifier.
    pub(super) fn lead_echo(&self, socket: SockRef<'_>, number: u8, identifier: u16) -> io::Result<()> {
        self.mark(&socket)?;
        self.register(number, identifier);
        Ok(())
    }

    fn lead(&self, socket: &SockRef<'_>, number: u8) -> io::Result<()> {
        self.mark(socket)?;
        let port = socket.local_addr()?.as_socket().map_or(0, |own| own.port());
        self.register(number, port);
        Ok(())
    }

    fn mark(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_mark(self.device.mark())?;
        if self.vip.is_ipv4() {
            socket.set_ttl_v4(HOPS)?;
        } else {
            socket.set_unicast_hops_v6(HOPS)?;
        }
        socket.bind(&SocketAddr::new(self.source, 0).into())
    }

    fn register(&self, number: u8, port: u16) {
        let from = Asker { number, address: self.source, port };
        self.device.register(from, Flight::new(self.entry, Arc::clone(&self.carried)));
    }

    /// How long a packet is that has to arrive: as long as the way allows. 0: any.
    pub(super) const fn longest(&self) -> u16 {
        if self.padded { self.entry.room } else { 0 }
    }

    /// What a probe's result means once it is known whether its packets took this path.
    pub(crate) fn judge(&self, result: Result<Answer, ProbeError>) -> Result<Answer, ProbeError> {
        if !self.carried.load(Ordering::Relaxed) {
            let reason = format!(
                "packets to {} did not leave by {}: it is an address of this host, or another rule comes first; \
                 see: ip rule",
                self.vip,
                self.device.name()
            );
            return Err(ProbeError::Local { reason });
        }
        result.map_err(|error| {
            if error.is_local() {
                return error;
            }
            ProbeError::OnPath { error: Box::new(error), way: self.described() }
        })
    }

    fn described(&self) -> String {
        let Self { way, vip, entry, .. } = self;
        let length = if self.padded { format!(" in packets of {} bytes", entry.room) } else { String::new() };
        format!("{way}{length}: look there for {vip}, what unwraps, and the MTU")
    }
}
