//! The state of the agent at one moment, from which all metrics are rendered.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::api::types::{BackendView, FlowUse, QuicPackets, ServiceView, SourceView};
use crate::dataplane::kernel::Runs;
use crate::durations;
use crate::flow_log::Tally;
use crate::otlp;

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
    /// Connections whose packets are translated.
    pub connections: FlowUse,
    /// Sources of backends.
    pub discovery: Vec<SourceView>,
    /// What somebody should look at.
    pub problems: u64,
    /// How long bringing the maps up to date took since the agent started.
    pub reconciles: durations::Outcomes,
    /// How long probes took, by the names of services.
    pub probes: BTreeMap<String, durations::Outcomes>,
    /// What the kernel says of the programs.
    pub programs: Vec<Program>,
    /// What became of the flow log's records.
    pub flow_log: Tally,
    /// What became of what is told to a collector.
    pub otlp: otlp::Tally,
    /// A hash of the configuration in force.
    pub config_hash: String,
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
    /// When the configuration was last read, whatever came of it: by the last reload, or when the agent started. Seconds
    /// since 1970.
    pub last_time: u64,
}

impl Reloads {
    /// None yet.
    #[must_use]
    pub fn at_start() -> Self {
        let mut reloads = Self::default();
        reloads.stamp();
        reloads
    }

    /// Counts one that was taken over, or refused.
    pub fn count(&mut self, is_ok: bool) {
        *if is_ok { &mut self.ok } else { &mut self.failed } += 1;
        self.last_failed = !is_ok;
        self.stamp();
    }

    fn stamp(&mut self) {
        self.last_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    }
}

/// What the kernel says of a program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier walked through, where the kernel says so.
    pub verified_instructions: Option<u32>,
    /// How often it was run, and for how long, if the kernel counts that.
    pub runs: Option<Runs>,
}
