//! Backends on this host itself: the devices that lead to them are made once there is one, and stay.

use super::state::Agent;
use crate::{
    config::{Forward, XdpMode},
    local::{self, LocalWay},
    nexthop::Resolution,
};
use std::net::IpAddr;
use tracing::{error, info};

/// The way to them.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// Once there was one.
    pub(super) way: Option<LocalWay>,
    /// Why there is none, though there should be.
    problem: Option<String>,
}

impl Agent {
    /// Sees to it that there is a way, if one is needed.
    pub(super) fn lead_to_local(&mut self) {
        if self.local.way.is_none() && self.has_local() {
            self.open_local();
        }
    }

    /// Makes good what others removed.
    pub(super) fn mend_local(&mut self) {
        let before = self.local.way;
        if before.is_some() || self.local.problem.is_some() {
            self.open_local();
        }
        if self.local.way != before {
            self.reconcile();
        }
    }

    fn open_local(&mut self) {
        let opened = LocalWay::open(&self.config.agent.interfaces).map_err(|error| error.to_string());
        let opened = opened.and_then(|way| self.attach_local().map(|()| way));
        let before = self.local.problem.take();
        match opened {
            Ok(way) => self.local.way = Some(way),
            Err(problem) => {
                if before.as_ref() != Some(&problem) {
                    error!(problem, "backends on this host cannot be reached");
                }
                self.local.problem = Some(problem);
            }
        }
    }

    /// Attaches to the devices, unless that was done: in the mode in which every interface takes what comes from there.
    fn attach_local(&mut self) -> Result<(), String> {
        if self.attached.iter().any(|attached| attached.interface == local::NEAR) {
            return Ok(());
        }
        let attached = self.reconciler.dataplane().attach(local::NEAR, XdpMode::Generic);
        let attached = attached.map_err(|error| error.to_string())?;
        info!(interface = local::NEAR, mode = %attached.mode, "attached");
        self.attached.push(attached);
        if self.is_ready() { self.attach_instance() } else { Ok(()) }
    }

    /// The mode in which an interface is attached to.
    pub(super) fn mode_of(&self, interface: &str) -> XdpMode {
        if interface == local::NEAR { XdpMode::Generic } else { self.config.agent.xdp_mode }
    }

    /// Whether packets of some service are translated to an address of this host.
    fn has_local(&self) -> bool {
        let next_hops = self.inputs.next_hops();
        let is_local = |address| next_hops.get(&address).is_some_and(Resolution::is_local);
        let translated = self.config.services.iter().filter(|service| service.forward == Forward::Nat);
        translated.flat_map(|service| &service.backends).any(|backend| is_local(backend.address))
    }

    /// Whether packets reach an address of this host in every service that has it.
    pub(super) fn reaches_local(&self, address: IpAddr) -> bool {
        let has = |service: &&crate::config::Service| {
            service.backends.iter().any(|backend| backend.address == address)
        };
        self.local.way.is_some_and(|way| way.hop(address).is_some())
            && self.config.services.iter().filter(has).all(|service| service.forward == Forward::Nat)
    }

    pub(super) fn local_problem(&self) -> Option<String> {
        self.local.problem.as_ref().map(|problem| format!("backends on this host get no packets: {problem}"))
    }
}
