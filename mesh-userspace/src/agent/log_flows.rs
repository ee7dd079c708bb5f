//! Logging flows: an instance of the programs that tells of them, and the thread that writes.
//!
//! Invariant: what cannot be logged is told as a problem, and packets are balanced all the same.

use super::state::Agent;
use crate::{
    dataplane::kernel::{Tracer, wait_for_packets},
    flow_log::{FlowLog, Sink, Tally},
};
use tracing::{error, info};

/// What logs flows.
pub(super) struct Logging {
    /// The instance that is attached unless somebody watches packets.
    tracer: Tracer,
    log: FlowLog,
    /// Why it is not attached.
    detached: Option<String>,
}

impl Agent {
    /// Begins to log flows, if they should be.
    pub(super) fn log_flows(&mut self) {
        let Some(config) = &self.config.flow_log else { return };
        let sink = Sink::from(config);
        let started = Tracer::log(self.reconciler.dataplane().recipe())
            .map_err(|error| error.to_string())
            .and_then(|(tracer, turns)| {
                let log = FlowLog::start(turns, sink, self.names()).map_err(|error| error.to_string())?;
                Ok(Logging { tracer, log, detached: None })
            });
        match started {
            Ok(logging) => {
                self.logging = Some(logging);
                // Where that fails it is tried again.
                if self.attach_unwatched().is_ok() {
                    info!("flows are logged");
                }
            }
            Err(reason) => {
                error!(reason, "could not begin to log flows");
                self.unlogged = Some(format!("flows are not logged until the agent starts again: {reason}"));
            }
        }
    }

    /// Attaches what is attached while nobody watches packets.
    pub(super) fn attach_unwatched(&mut self) -> Result<(), String> {
        let kernel = self.reconciler.dataplane();
        let Some(logging) = &mut self.logging else { return kernel.trace_no_more() };
        let attached = kernel.trace_by(&mut logging.tracer);
        if let (Err(reason), None) = (&attached, &logging.detached) {
            error!(reason, "could not attach the programs that log flows, trying again");
        }
        logging.detached = attached.clone().err();
        attached
    }

    /// Tries again what failed.
    pub(super) fn log_flows_again(&mut self) {
        let failed = self.logging.as_ref().is_some_and(|logging| logging.detached.is_some());
        // While somebody watches, their instance logs.
        if failed && !self.is_watched() && self.attach_unwatched().is_ok() {
            info!("flows are logged again");
        }
    }

    /// Ends the log, once the plain instance is attached and all that was told is written.
    pub(super) fn log_no_more(&mut self) {
        let Some(logging) = self.logging.take() else { return };
        if let Err(reason) = self.reconciler.dataplane().trace_no_more() {
            error!(reason, "could not attach the plain programs again");
        }
        wait_for_packets();
        logging.log.finish();
    }

    /// The maps have changed: flows are logged by the names that there are now.
    pub(super) fn rename_flows(&self) {
        if let Some(logging) = &self.logging {
            logging.log.rename(self.names());
        }
    }

    /// Opens the file again.
    pub(super) fn reopen_flow_log(&self) {
        if let Some(logging) = &self.logging {
            logging.log.reopen();
        }
    }

    /// What somebody should look at.
    pub(super) fn flow_log_problems(&self) -> Vec<String> {
        let logging = self.logging.as_ref();
        let detached = logging.and_then(|logging| logging.detached.as_ref());
        let detached = detached.map(|reason| format!("flows are not logged: {reason}"));
        let unwritten = logging.and_then(|logging| logging.log.problem());
        self.unlogged.clone().into_iter().chain(detached).chain(unwritten).collect()
    }

    /// What became of records.
    pub(super) fn flow_log_tally(&self) -> Tally {
        self.logging.as_ref().map(|logging| logging.log.tally()).unwrap_or_default()
    }

    /// The instance that logs, if there is one.
    pub(super) fn logger(&self) -> Option<&Tracer> {
        self.logging.as_ref().map(|logging| &logging.tracer)
    }
}
