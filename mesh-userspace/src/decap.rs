//! The backend's side: removes outer headers where the kernel has no tunnel device.
//!
//! The program is attached as long as this process runs. It unwraps packets for the addresses of its interface, which
//! are followed as they change, and only those that carry a packet for one of the VIPs.

use crate::{
    config::XdpMode,
    dataplane::{kernel::attach_best, wire_address},
};
use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::Xdp,
};
use mesh_common::abi::halves;
use nix::ifaddrs::getifaddrs;
use std::{collections::BTreeSet, net::IpAddr, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};
use tracing::{info, warn};

/// The decapsulator's object, as `cargo xtask build` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MESHLB_DECAP_OBJECT"));

/// How often the interface's addresses are read.
const REFRESH: Duration = Duration::from_secs(1);

/// IPv4 as IPv4-mapped addresses, in two words.
type Addresses = HashMap<MapData, [u64; 2], u8>;

/// Unwraps packets for `vips` that come in by `interface`, until a signal ends it.
///
/// # Errors
///
/// The interface is not there or cannot be attached to, or the kernel refuses the program.
pub async fn run(interface: &str, vips: &[IpAddr], mode: XdpMode) -> anyhow::Result<()> {
    crate::logging::init(&crate::config::Log::default())?;
    let mut ebpf = Ebpf::load(OBJECT).context("the kernel refused the decapsulator's maps")?;
    let mut served = take(&mut ebpf, "VIPS")?;
    for vip in vips {
        served
            .insert(halves(wire_address(*vip)), 1, 0)
            .with_context(|| format!("could not add VIP {vip}"))?;
    }
    let mut own = take(&mut ebpf, "OWN_ADDRESSES")?;
    follow(&mut own, interface)?;
    let program: &mut Xdp =
        ebpf.program_mut("decap").context("the object has no program decap")?.try_into()?;
    program.load().context("the kernel refused the decapsulator")?;
    let instructions = program.info()?.verified_instruction_count().unwrap_or(0);
    let (_link, mode, _) = attach_best(program, interface, mode)?;
    info!(interface, %mode, instructions, vips = vips.len(), "attached");
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("could not tell systemd")?;
    serve(&mut own, interface).await
}

async fn serve(own: &mut Addresses, interface: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT")?;
    let mut refresh = interval(REFRESH);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = refresh.tick() => {
                if let Err(error) = follow(own, interface) {
                    warn!(error = format!("{error:#}"), "could not follow the addresses of the interface");
                }
            }
        }
    }
}

/// Makes the map hold the interface's addresses.
fn follow(own: &mut Addresses, interface: &str) -> anyhow::Result<()> {
    let wanted = addresses(interface)?;
    let there: BTreeSet<[u64; 2]> = own.keys().collect::<Result<_, _>>()?;
    for gone in there.difference(&wanted) {
        own.remove(gone)?;
    }
    for new in wanted.difference(&there) {
        own.insert(new, 1, 0)?;
    }
    Ok(())
}

fn addresses(interface: &str) -> anyhow::Result<BTreeSet<[u64; 2]>> {
    let own = getifaddrs()
        .context("could not read the host's addresses")?
        .filter(|a| a.interface_name == interface);
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    Ok(own
        .filter_map(|entry| entry.address)
        .filter_map(address)
        .map(|address| halves(wire_address(address)))
        .collect())
}

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Addresses> {
    let map = ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?;
    Ok(HashMap::try_from(map)?)
}
