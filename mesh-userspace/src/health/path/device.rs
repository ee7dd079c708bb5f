//! The device that probes' packets go to, and the task that takes them on.
//!
//! Invariant: what is not registered ends here.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mesh_common::abi::BackendEntry;
use nix::net::if_::if_nametoindex;
use rtnetlink::IpVersion;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::routing::{Routing, RoutingError};
use super::{frame, syscalls};

/// How often routes and rules are looked after: others may flush them.
const LOOK: Duration = Duration::from_secs(5);

/// How long a socket's last packets may come after it was registered: longer than any probe that is of use.
const KEPT: Duration = Duration::from_secs(300);

/// As many registrations as are kept without looking for old ones.
const FEW: usize = 4096;

/// Bytes of the longest packet.
const LONGEST: usize = 65_536;

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceError {
    /// The kernel gives none.
    #[error("no device for probes to VIPs could be made of /dev/net/tun: {0}")]
    Tun(io::Error),
    /// No way to send frames.
    #[error("probes to VIPs cannot send frames: {0}; it takes the capability CAP_NET_RAW")]
    Frames(io::Error),
    /// Nothing would be led to it.
    #[error(transparent)]
    Routing(#[from] RoutingError),
}

/// By which a packet tells its probe: the socket's own address and port, or an echo request's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asker {
    /// The protocol's number.
    pub(super) number: u8,
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// Where the packets of a socket go.
#[derive(Debug)]
pub(super) struct Flight {
    entry: BackendEntry,
    carried: Arc<AtomicBool>,
    begun: Instant,
}

impl Flight {
    /// To this backend; `carried` becomes true with the first packet.
    pub(super) fn new(entry: BackendEntry, carried: Arc<AtomicBool>) -> Self {
        Self { entry, carried, begun: Instant::now() }
    }
}

type Flights = Arc<Mutex<HashMap<Asker, Flight>>>;

/// The device.
#[derive(Debug)]
pub(super) struct Device {
    name: String,
    mark: u32,
    flights: Flights,
    carrier: AbortOnDropHandle<()>,
    _keeper: AbortOnDropHandle<()>,
}

impl Device {
    /// Makes the device, which ends with this value, and leads marked packets to it.
    pub(super) async fn open(mark: u32) -> Result<Arc<Self>, DeviceError> {
        let (tun, name) = syscalls::open_tun().map_err(DeviceError::Tun)?;
        let ifindex = if_nametoindex(name.as_str()).map_err(|error| DeviceError::Tun(error.into()))?;
        let frames = syscalls::frame_socket().map_err(DeviceError::Frames)?;
        let routing = Routing::open(ifindex, mark)?;
        let families = routing.begin().await?;
        let flights = Flights::default();
        let tun = syscalls::follow(tun).map_err(DeviceError::Tun)?;
        let carrier = tokio::spawn(carry(tun, frames, Arc::clone(&flights)));
        let keeper = tokio::spawn(keep(routing, families));
        info!(device = name, mark, "probes to VIPs go by a device of their own");
        let [carrier, _keeper] = [carrier, keeper].map(AbortOnDropHandle::new);
        Ok(Arc::new(Self { name, mark, flights, carrier, _keeper }))
    }

    /// Whether it takes packets; others may have removed it.
    pub(super) fn is_there(&self) -> bool {
        if_nametoindex(self.name.as_str()).is_ok() && !self.carrier.is_finished()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn mark(&self) -> u32 {
        self.mark
    }

    /// Takes the packets of a socket to a backend from now on.
    pub(super) fn register(&self, from: Asker, flight: Flight) {
        let mut flights = lock(&self.flights);
        if flights.len() >= FEW {
            flights.retain(|_, flight| flight.begun.elapsed() < KEPT);
        }
        flights.insert(from, flight);
    }
}

fn lock(flights: &Flights) -> MutexGuard<'_, HashMap<Asker, Flight>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes packets on as they come.
async fn carry(tun: AsyncFd<OwnedFd>, frames: OwnedFd, flights: Flights) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let read = tun.async_io(Interest::READABLE, |tun| Ok(nix::unistd::read(tun, &mut buffer)?)).await;
        let length = match read {
            Ok(length) => length,
            Err(error) => return warn!(%error, "the device for probes to VIPs is gone"),
        };
        let packet = buffer.get(..length).unwrap_or_default();
        let made = frame::read(packet).and_then(|read| {
            let flights = lock(&flights);
            let flight = flights.get(&read.from)?;
            let frame = frame::wrapped(packet, &read, &flight.entry)?;
            flight.carried.store(true, Ordering::Relaxed);
            Some((frame, flight.entry.ifindex))
        });
        let Some((frame, ifindex)) = made else { continue };
        if let Err(error) = syscalls::send_frame(frames.as_fd(), ifindex, &frame) {
            debug!(%error, "could not send a probe's packet");
        }
    }
}

/// Keeps packets coming. What fails is told once.
async fn keep(routing: Routing, families: Vec<IpVersion>) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let failed = routing.renew(&families).await.err().map(|error| error.to_string()).unwrap_or_default();
        if !failed.is_empty() && failed != told {
            warn!(error = failed, "probes to VIPs may not take their way");
        }
        told = failed;
    }
}
