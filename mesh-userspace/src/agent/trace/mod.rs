//! Watching packets: who may, and what they are told.
//!
//! Invariant: the instance that tells of packets is attached only while somebody watches. Whoever watches holds a
//! [`Seat`]; when that goes, by whatever way, the loop attaches the plain instance again.

mod tell;
mod wanted;

pub(crate) use tell::tell;
pub use wanted::Wanted;

use super::{command::CommandError, state::Agent};
use crate::dataplane::{
    host_address,
    kernel::{Recipe, Tracer},
};
use mesh_common::notes::Filter;
use nix::net::if_::if_indextoname;
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};
use tracing::{error, info};

/// The right to watch, which one has at a time.
#[derive(Clone, Debug)]
pub struct Seat(#[expect(dead_code, reason = "held for as long as somebody watches")] Arc<()>);

/// What somebody who is about to watch gets from the loop.
#[derive(Debug)]
pub struct Admission {
    /// The right to watch.
    pub seat: Seat,
    /// What it takes to load the instance that tells of packets.
    pub recipe: Recipe,
    /// Which packets it tells of.
    pub filter: Filter,
    /// Whether it tells the flow log of flows, too.
    pub logs: bool,
}

/// The names of what packets are told by.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Services by their ids in the maps.
    pub services: BTreeMap<u32, String>,
    /// Addresses of backends by their ids, and the ids of their services.
    pub backends: BTreeMap<u32, (String, u32)>,
}

/// Who watches, as the loop knows it.
#[derive(Default)]
pub(super) struct Watchers {
    seat: Weak<()>,
    /// The instance that is attached meanwhile.
    tracer: Option<Tracer>,
}

impl Watchers {
    /// The instance that is attached while somebody watches.
    pub(super) const fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }
}

impl Agent {
    /// Lets somebody watch, unless somebody does.
    pub(super) fn admit(&mut self, wanted: &Wanted) -> Result<Admission, CommandError> {
        if !self.is_ready() {
            return Err(CommandError::failed("packets are not balanced yet")
                .advise("meshlb status says when they are"));
        }
        self.trace_no_more();
        if self.watchers.seat.strong_count() > 0 || self.watchers.tracer.is_some() {
            return Err(CommandError::invalid("somebody watches packets already").advise(
                "end the other meshlb trace first; a filter can be as wide as need be, and -w keeps all",
            ));
        }
        let filter = self.filter(wanted)?;
        let seat = Arc::new(());
        self.watchers.seat = Arc::downgrade(&seat);
        let recipe = self.reconciler.dataplane().recipe().clone();
        Ok(Admission { seat: Seat(seat), recipe, filter, logs: self.logging.is_some() })
    }

    /// Attaches the instance that tells of packets.
    pub(super) fn trace_by(&mut self, mut tracer: Tracer) -> Result<Names, CommandError> {
        let failed = |reason: String| CommandError::failed(format!("packets cannot be watched: {reason}"));
        self.reconciler.dataplane().trace_by(&mut tracer).map_err(failed)?;
        self.watchers.tracer = Some(tracer);
        info!("somebody watches packets");
        Ok(self.names())
    }

    /// Attaches the plain instance again, if nobody watches any more.
    pub(super) fn trace_no_more(&mut self) {
        if self.watchers.seat.strong_count() > 0 || self.watchers.tracer.is_none() {
            return;
        }
        self.stop_tracing();
    }

    /// Attaches again what is attached while nobody watches, whoever watches.
    pub(super) fn stop_tracing(&mut self) {
        if self.watchers.tracer.is_none() {
            return;
        }
        match self.attach_unwatched() {
            Ok(()) => {
                // The links have left its programs: now their pin may go.
                self.watchers.tracer = None;
                info!("nobody watches packets any more");
            }
            Err(reason) => error!(reason, "could not attach the programs of before again, trying again"),
        }
    }

    /// Attaches what should be attached, where another instance may be.
    pub(super) fn attach_instance(&mut self) -> Result<(), String> {
        match &mut self.watchers.tracer {
            Some(tracer) => self.reconciler.dataplane().trace_by(tracer),
            None => self.attach_unwatched(),
        }
    }

    pub(super) fn names(&self) -> Names {
        let services = self.config.services.iter();
        let named =
            services.filter_map(|service| Some((self.entry(service.key())?.id, service.name.clone())));
        let backends = self.reconciler.actual().backends.iter();
        let addressed =
            backends.map(|(id, entry)| (*id, (host_address(entry.address).to_string(), entry.service)));
        Names { services: named.collect(), backends: addressed.collect() }
    }

    pub(super) const fn is_watched(&self) -> bool {
        self.watchers.tracer.is_some()
    }
}

/// The name of an interface.
fn interface(index: u32) -> String {
    if_indextoname(index).map_or_else(|_gone| index.to_string(), |name| name.to_string_lossy().into_owned())
}
