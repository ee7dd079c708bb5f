//! The backend's side: removes outer headers where the kernel has no tunnel device.
//!
//! The program is attached as long as this process runs. It unwraps packets for the addresses of its interface, which
//! are followed as they change, and only those that carry a packet for one of the VIPs.

mod program;

pub use program::{DecapError, Decapsulator};

use crate::{config::XdpMode, dataplane::kernel::attach_best};
use anyhow::Context as _;
use ipnet::IpNet;
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use std::{collections::BTreeSet, net::IpAddr, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};
use tracing::{info, warn};

/// How often the interface's addresses are read.
const REFRESH: Duration = Duration::from_secs(1);

/// Unwraps packets for `vips` that come in by `interface`, until a signal ends it.
///
/// # Errors
///
/// The interface is not there or cannot be attached to, or the kernel refuses the program.
pub async fn run(interface: &str, vips: &[IpNet], mode: XdpMode) -> anyhow::Result<()> {
    crate::logging::init(&crate::config::Log::default())?;
    let mut decapsulator = Decapsulator::load()?;
    decapsulator.set_vips(&vips.iter().copied().collect())?;
    decapsulator.set_own_addresses(&addresses(interface)?)?;
    let (_link, mode, _) = attach_best(decapsulator.program()?, interface, mode)?;
    let instructions = decapsulator.verified_instructions.unwrap_or(0);
    info!(interface, %mode, instructions, vips = vips.len(), "attached");
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("could not tell systemd")?;
    serve(&mut decapsulator, interface).await
}

async fn serve(decapsulator: &mut Decapsulator, interface: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT")?;
    let mut refresh = interval(REFRESH);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = refresh.tick() => {
                if let Err(error) = follow(decapsulator, interface) {
                    warn!(error = format!("{error:#}"), "could not follow the addresses of the interface");
                }
            }
        }
    }
}

/// Makes tunnels end at the interface's addresses as they are now.
fn follow(decapsulator: &mut Decapsulator, interface: &str) -> anyhow::Result<()> {
    Ok(decapsulator.set_own_addresses(&addresses(interface)?)?)
}

fn addresses(interface: &str) -> anyhow::Result<BTreeSet<IpAddr>> {
    let all = getifaddrs().context("could not read the host's addresses")?;
    let own = all.filter(|entry| entry.interface_name == interface);
    Ok(own.filter_map(|entry| entry.address).filter_map(|address| ip(&address)).collect())
}

fn ip(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
