//! What the faces ask of the agent's loop.
//!
//! Invariant: the loop is the only owner of the agent's state; everybody else sends a [`Command`] and waits for
//! the answer. A sender that gave up drops its receiver, which the loop may ignore.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::oneshot;

use super::explain::{Bench, Case};
use super::flows::{FlowFilter, FlowKey};
use super::trace::{Admission, Names, Wanted};
use crate::api::types::{
    BackendView, DrainProgress, Explanation, FlowCount, FlowView, GuardView, MaintenanceReport, OrderReport,
    ReloadReport, ServiceView, SplitReport, Status,
};
use crate::dataplane::kernel::Tracer;
use crate::events::{self, Event};
use crate::health::Report;
use crate::metrics::Snapshot;
use crate::overrides::{ClientOrder, Maintenance};

/// A question or an order to the agent's loop, with the way back for the answer.
#[derive(Debug)]
pub enum Command {
    /// The agent at a glance.
    Status(oneshot::Sender<Status>),
    /// Every service.
    Services(oneshot::Sender<Vec<ServiceView>>),
    /// Every backend of every service.
    Backends(oneshot::Sender<Vec<BackendView>>),
    /// What happened.
    Events {
        /// Which of it.
        question: events::Question,
        /// The way back.
        reply: oneshot::Sender<Vec<Event>>,
    },
    /// Flows that have an entry.
    Flows {
        /// Which of them.
        filter: FlowFilter,
        /// The most flows to return.
        limit: usize,
        /// The way back.
        reply: oneshot::Sender<Result<Vec<FlowView>, CommandError>>,
    },
    /// How many flows have an entry.
    FlowCounts {
        /// Which of them.
        filter: FlowFilter,
        /// What they are counted by.
        by: FlowKey,
        /// The most lines to return.
        limit: usize,
        /// The way back.
        reply: oneshot::Sender<Result<Vec<FlowCount>, CommandError>>,
    },
    /// What runs a packet that comes in by an interface, or by the first that packets are taken from: with that, its name
    /// and index.
    Bench {
        /// The name of the interface.
        interface: Option<String>,
        /// The way back.
        reply: oneshot::Sender<Result<(Bench, String, u32), CommandError>>,
    },
    /// What it means that this became of a packet.
    Explain {
        /// The packet, and what became of it.
        case: Box<Case>,
        /// The way back.
        reply: oneshot::Sender<Result<Explanation, CommandError>>,
    },
    /// Let somebody watch packets, unless somebody does.
    Watch {
        /// Which.
        wanted: Wanted,
        /// The way back.
        reply: oneshot::Sender<Result<Admission, CommandError>>,
    },
    /// Attach the programs that tell of packets, for somebody who may watch.
    Trace {
        /// The programs.
        tracer: Box<Tracer>,
        /// The way back.
        reply: oneshot::Sender<Result<Names, CommandError>>,
    },
    /// The names of services and backends.
    Names(oneshot::Sender<Names>),
    /// Attach the plain programs again, if nobody watches any more.
    TraceNoMore(oneshot::Sender<()>),
    /// Read the configuration again and act on it.
    Reload {
        /// Only say what that would do.
        dry_run: bool,
        /// The way back.
        reply: oneshot::Sender<Result<ReloadReport, CommandError>>,
    },
    /// Treat a backend otherwise than the configuration has it.
    Order {
        /// Name of the service.
        service: String,
        /// Address of the backend.
        backend: IpAddr,
        /// How.
        order: Order,
        /// The way back.
        reply: oneshot::Sender<Result<OrderReport, CommandError>>,
    },
    /// Split a service's new flows otherwise than the configuration has it, or as it has it.
    Split {
        /// Name of the service.
        service: String,
        /// Shares of some of its groups by name; `None`: all as configured.
        shares: Option<BTreeMap<String, u16>>,
        /// The way back.
        reply: oneshot::Sender<Result<SplitReport, CommandError>>,
    },
    /// Whom guarded services serve.
    Guards(oneshot::Sender<Vec<GuardView>>),
    /// Let clients of a service in, or keep them out, or neither any more.
    Guard {
        /// Name of the service.
        service: String,
        /// Which clients.
        clients: IpNet,
        /// What becomes of them; `None`: what the configuration says.
        order: Option<ClientOrder>,
        /// The way back.
        reply: oneshot::Sender<Result<GuardView, CommandError>>,
    },
    /// Begin or end work on a host.
    Maintain {
        /// Address of the host's backends.
        backend: IpAddr,
        /// What the work is; `None`: it is over.
        work: Option<Maintenance>,
        /// The way back.
        reply: oneshot::Sender<Result<MaintenanceReport, CommandError>>,
    },
    /// How far a drain is.
    DrainProgress {
        /// Name of the service.
        service: String,
        /// Address of the backend.
        backend: IpAddr,
        /// The way back.
        reply: oneshot::Sender<Result<DrainProgress, CommandError>>,
    },
    /// What a backend reports of itself.
    Heartbeat {
        /// Name of the service.
        service: String,
        /// Address of the backend.
        backend: IpAddr,
        /// What it says.
        report: Report,
        /// Its load, if it says so.
        load: Option<f64>,
        /// The way back.
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    /// All that the metrics say.
    Metrics(oneshot::Sender<Snapshot>),
}

/// How a backend is treated otherwise than the configuration has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It gets no new flows and keeps those it has.
    Drain,
    /// It gets new flows again.
    Undrain,
    /// Its weight; `None`: as configured.
    Weight(Option<u16>),
}

/// Why the loop refused a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CommandError {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What is wrong. May have several lines (an error of the configuration shows the place).
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// Whose fault an error is; it decides the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request or the configuration cannot be acted on as it is.
    Invalid,
    /// It names something that does not exist.
    NotFound,
    /// The agent could not do what was asked.
    Failed,
}

impl CommandError {
    /// The request or the configuration cannot be acted on as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, message: message.into(), advice: None }
    }

    /// The request names something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::NotFound, message: message.into(), advice: None }
    }

    /// The agent could not do what was asked.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failed, message: message.into(), advice: None }
    }

    /// The same error, saying what to do about it.
    #[must_use]
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}
