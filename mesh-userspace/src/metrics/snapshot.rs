//! The state of the agent at one moment, from which all metrics are rendered.

use std::collections::BTreeMap;

use crate::api::types::{BackendView, FlowUse, QuicPackets, ServiceView, SourceView};

/// All that the metrics say, taken by the agent's loop when somebody scrapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Version of the agent.
    pub version: String,
    /// Whether the tables are loaded and packets are balanced.
    pub ready: bool,
    /// Every service.
    pub services: Vec<ServiceView>,
    /// Every backend of every service.
    pub backends: Vec<BackendView>,
    /// Packets by the name of their outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Packets of QUIC services, by what led them to their backends.
    pub quic: QuicPackets,
    /// How full the flow tables are.
    pub flows: FlowUse,
    /// Sources of backends.
    pub discovery: Vec<SourceView>,
    /// What somebody should look at.
    pub problems: u64,
    /// How often the maps were brought up to date since the agent started.
    pub reconciles: Reconciles,
    /// Reloads since the agent started.
    pub reloads: Reloads,
    /// How often many backends failed at once since the agent started.
    pub incidents: u64,
}

/// Reloads of the configuration since the agent started, by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Reloads that were taken over, those that changed nothing included.
    pub ok: u64,
    /// Reloads that were refused; the configuration before stayed in force.
    pub failed: u64,
    /// Whether the last one was.
    pub last_failed: bool,
}

/// How often the maps were brought up to date since the agent started, by result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reconciles {
    /// Times that it went well, those included that changed nothing.
    pub ok: u64,
    /// Times that an op failed.
    pub failed: u64,
    /// What all of them took together. Seconds.
    pub seconds: f64,
}
