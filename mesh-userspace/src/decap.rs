//! The backend's side: removes outer headers where the kernel has no tunnel device.
//!
//! A program is attached as long as this process runs. It unwraps packets for the addresses of its interface, which
//! are followed as they change, and only those that carry a packet for one of the VIPs.

mod attach;
mod metrics;
mod program;

pub use attach::{AttachError, Mode, Way, attach, attach_by};
pub use metrics::render;
pub use program::{DecapError, Decapsulator, Outcomes};

use crate::supervisor;
use anyhow::{Context as _, bail};
use ipnet::IpNet;
use mesh_common::abi::tunnel;
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

/// How often the interface's addresses are read.
const REFRESH: Duration = Duration::from_secs(1);

/// What is unwrapped, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The interface by which wrapped packets come in.
    pub interface: String,
    /// What inner packets may be for.
    pub vips: BTreeSet<IpNet>,
    /// How the program is attached.
    pub mode: Mode,
    /// UDP ports at which GUE is unwrapped.
    pub gue_ports: Vec<u16>,
    /// UDP ports at which Geneve is unwrapped.
    pub geneve_ports: Vec<u16>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

impl Options {
    /// What is unwrapped at each UDP port, one of [`tunnel`]. Port 0 is none.
    ///
    /// # Errors
    ///
    /// A port is given for both.
    pub fn ports(&self) -> anyhow::Result<BTreeMap<u16, u32>> {
        if let Some(port) = self.gue_ports.iter().find(|port| **port != 0 && self.geneve_ports.contains(port))
        {
            bail!(
                "UDP port {port} cannot be for GUE and for Geneve: give --gue-port or --geneve-port another, or 0 for none"
            );
        }
        let gue = self.gue_ports.iter().map(|port| (*port, tunnel::GUE));
        let geneve = self.geneve_ports.iter().map(|port| (*port, tunnel::GENEVE));
        Ok(gue.chain(geneve).filter(|(port, _)| *port != 0).collect())
    }
}

/// Unwraps packets until a signal ends it.
///
/// # Errors
///
/// The options contradict each other, the interface is not there or cannot be attached to, the address for metrics is
/// not to be had, or the kernel refuses the program.
pub async fn run(options: Options) -> anyhow::Result<()> {
    crate::logging::init(&crate::config::Log::default())?;
    let Options { interface, vips, mode, .. } = &options;
    let mut decapsulator = Decapsulator::load()?;
    decapsulator.set_ports(&options.ports()?)?;
    decapsulator.set_vips(vips)?;
    decapsulator.set_own_addresses(&addresses(interface)?)?;
    let (shutdown, _metrics) = serve_metrics(&options, &decapsulator).await?;
    let way = attach(&mut decapsulator, interface, *mode)?;
    info!(interface, mode = %way, vips = vips.len(), "attached");
    supervisor::ready(&format!("unwraps packets for {} VIPs", vips.len()))
        .context("could not tell systemd")?;
    let ended = serve(&mut decapsulator, interface).await;
    supervisor::stopping();
    shutdown.cancel();
    info!(packets = summary(&decapsulator)?, "ended");
    ended
}

/// The outcomes that packets had, for people.
fn summary(decapsulator: &Decapsulator) -> Result<String, DecapError> {
    let outcomes = decapsulator.outcomes()?;
    let had = outcomes.iter().filter(|(_, count)| **count != 0);
    Ok(had.map(|(outcome, count)| format!("{}={count}", outcome.label())).collect::<Vec<_>>().join(" "))
}

/// What ends the server of metrics: politely, and when it is dropped.
type Server = (CancellationToken, Option<AbortOnDropHandle<()>>);

async fn serve_metrics(options: &Options, decapsulator: &Decapsulator) -> anyhow::Result<Server> {
    let shutdown = CancellationToken::new();
    let Some(listen) = options.metrics else { return Ok((shutdown, None)) };
    let listener = tokio::net::TcpListener::bind(listen).await;
    let listener =
        listener.with_context(|| format!("cannot serve metrics at {listen}: give --metrics another"))?;
    let serving = metrics::serve(listener, decapsulator.counters(), shutdown.clone());
    let task = tokio::spawn(async move {
        if let Err(error) = serving.await {
            warn!(%error, "metrics are no longer served");
        }
    });
    Ok((shutdown, Some(AbortOnDropHandle::new(task))))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(gue_ports: &[u16], geneve_ports: &[u16]) -> Options {
        Options {
            interface: "eth0".into(),
            vips: BTreeSet::new(),
            mode: Mode::Auto,
            gue_ports: gue_ports.into(),
            geneve_ports: geneve_ports.into(),
            metrics: None,
        }
    }

    #[test]
    fn every_port_is_for_one_encapsulation_and_0_for_none() {
        let ports = options(&[6080, 7000], &[6081, 0]).ports().unwrap();
        assert_eq!(ports, [(6080, tunnel::GUE), (7000, tunnel::GUE), (6081, tunnel::GENEVE)].into());
        assert_eq!(options(&[0], &[0]).ports().unwrap(), BTreeMap::new());
        let error = options(&[6080, 1], &[6081, 6080]).ports().unwrap_err().to_string();
        assert!(error.contains("UDP port 6080") && error.contains("--geneve-port"), "{error}");
    }
}
