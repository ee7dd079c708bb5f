//! What the API answers with: the stable JSON contract of the unix socket and of `-o json`.
//!
//! Invariant: a field is added here, never renamed, removed or given another unit. Durations and ages are
//! seconds (`*_seconds`, fractional) unless the name says milliseconds (`*_ms`); counters start at zero when
//! the maps are created and survive a restart of the agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod explain;
mod trace;

pub use explain::{
    BackendSlots, ConnectionIdView, ExplainedBackend, ExplainedFlow, ExplainedGuard, ExplainedRecord,
    ExplainedService, ExplainedSlot, ExplainedTranslation, Explanation, NotChosen, PacketView, PickView,
    Prospect, ProspectiveFlow, RecordView, StepView,
};

pub use trace::{TraceLine, TraceView};

/// The agent at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running agent, which may differ from that of the client.
    pub version: String,
    /// Whether the tables are loaded and packets are balanced.
    pub ready: bool,
    /// Age of the agent's process. Seconds.
    pub uptime_seconds: f64,
    /// Where packets are taken from.
    pub interfaces: Vec<InterfaceView>,
    /// The health of every service, in the order of the configuration.
    pub services: Vec<ServiceHealth>,
    /// What somebody should look at, one sentence each. Empty when all is well.
    pub problems: Vec<String>,
    /// The loaded programs.
    pub programs: Vec<ProgramView>,
    /// How full the flow tables are.
    pub flows: FlowUse,
    /// How many connections there are whose packets are translated, as of the last look through them. None from agents
    /// that do not translate.
    #[serde(default)]
    pub connections: FlowUse,
    /// Packets by the name of the outcome their journey ended with.
    pub outcomes: BTreeMap<String, u64>,
    /// Packets of QUIC services, by what led them to their backends. None from agents that know no QUIC.
    #[serde(default)]
    pub quic: QuicPackets,
    /// Whether somebody watches packets. Not from agents that cannot be watched.
    #[serde(default)]
    pub watched: bool,
    /// Where services are defined beside the file, if anywhere; and sources of backends, in the order of the configuration.
    /// None from agents that know no discovery.
    #[serde(default)]
    pub discovery: Vec<SourceView>,
    /// Backends that are down, those first that went down last; no more than 20.
    #[serde(default)]
    pub backends_down: Vec<BackendDown>,
    /// Slots of all services that change over.
    #[serde(default)]
    pub slots_changing: u64,
}

/// A backend that is down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendDown {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub address: String,
    /// How long. Seconds.
    pub since_seconds: f64,
    /// Why; none if the probes do not say.
    pub reason: Option<String>,
}

/// A source of backends, or of services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its name: kind, and who is asked.
    pub source: String,
    /// Its kind, as configured.
    pub kind: String,
    /// Names of the services that it is a source of, or that it defines and that are in force.
    pub services: Vec<String>,
    /// `live`, `stale` if it does not answer at present, so that its last word stands, or `silent` if it has none.
    pub state: String,
    /// Instances that it knows, those included that a service leaves out; or definitions, those included that are refused.
    pub instances: u32,
    /// How long ago it last said so; none when it never did. Seconds.
    pub age_seconds: Option<f64>,
    /// Why it does not answer at present; none when it does.
    pub last_error: Option<String>,
    /// How often it failed since the agent began to follow it.
    pub errors: u64,
}

/// Packets of all QUIC services. Not all of them reached a backend: see the outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuicPackets {
    /// By `connection_id`, or by the hash of their flow for one of the other reasons.
    pub routed: BTreeMap<String, u64>,
    /// By the codepoint of connection ids that servers have chosen; 7 says "by no configuration".
    pub rotations: BTreeMap<String, u64>,
}

/// An interface the balancer is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Name as in the configuration.
    pub name: String,
    /// The kernel's index of the interface.
    pub ifindex: u32,
    /// `native` or `generic`.
    pub mode: String,
    /// Why generic mode is used where native was wanted; none otherwise.
    pub reason: Option<String>,
}

/// How many backends of a service take flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// Name of the service.
    pub service: String,
    /// Backends that get new flows.
    pub up: u32,
    /// Backends that fail their probes or have no next hop.
    pub down: u32,
    /// Backends that keep their flows and get no new ones.
    pub draining: u32,
    /// Too little healthy weight is left, so all backends are used whatever their probes say.
    pub panic: bool,
}

/// A program in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgramView {
    /// Name of the program in the object.
    pub name: String,
    /// Instructions the verifier walked. The kernel's limit is 1,000,000.
    pub verified_instructions: u32,
    /// Time the load took, verification included. Milliseconds.
    pub load_time_ms: f64,
}

/// How full the flow tables of both families are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowUse {
    /// Entries in use.
    pub used: u64,
    /// Entries there is room for.
    pub capacity: u64,
}

/// A service, its table and its traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Name of the service.
    pub name: String,
    /// What identifies it, as `203.0.113.10:80/tcp`, `203.0.113.0/24:8000-8100/tcp` or `[2001:db8::/64]:any/any`.
    pub key: String,
    /// Its address, or its prefix of addresses.
    pub vip: String,
    /// Its port; 0 when it has more than one.
    pub port: u16,
    /// Its ports: `80`, `8000-8100` or `any`.
    pub ports: String,
    /// `tcp`, `udp`, `quic` or `any`.
    pub protocol: String,
    /// `maglev`.
    pub scheduler: String,
    /// `l2` or `ipip`.
    pub forward: String,
    /// `adaptive`, `always` or `never`.
    pub tracking: String,
    /// Slots in the service's table.
    pub table_size: u32,
    /// The slots by phase; they sum up to `table_size`.
    pub slots: SlotPhases,
    /// Backends configured and discovered.
    pub backends: u32,
    /// Backends that get new flows.
    pub up: u32,
    /// Too little healthy weight is left, so all backends are used whatever their probes say.
    pub panic: bool,
    /// Packets forwarded to the service's backends.
    pub packets: u64,
    /// Bytes of those packets, from the IP header on, as they came in.
    pub bytes: u64,
    /// Flows first seen by the service.
    pub new_flows: u64,
    /// Flows that are recorded and not closing: as of now where a scheduler picks or flows are limited, else as of the
    /// last look through the flow table, up to 10 s ago. Flows at steady slots are not recorded.
    #[serde(default)]
    pub recorded_flows: u64,
    /// How many flows it may have; none if they are not limited.
    #[serde(default)]
    pub max_flows: Option<u32>,
    /// More flows begin than are remembered.
    #[serde(default)]
    pub flooded: bool,
    /// Groups that its new flows are split between; none without a split.
    #[serde(default)]
    pub groups: Vec<GroupView>,
    /// Tiers of its backends; none if all are of one.
    #[serde(default)]
    pub tiers: Vec<TierView>,
    /// Names of the sources of its backends beside the configuration.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Age of the oldest word that stands because its source does not answer; none when all do. Seconds.
    #[serde(default)]
    pub stale_seconds: Option<f64>,
}

/// A group of a service's backends, and what it gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    /// Name of the group; `default` for backends that name none.
    pub name: String,
    /// Its share relative to the other groups. The operator's, if there is one.
    pub share: u16,
    /// The share in the configuration.
    pub configured_share: u16,
    /// What it should get of the service's new flows now. Per cent.
    pub percent: f64,
    /// Backends of it.
    pub backends: u32,
    /// Backends of it that get new flows.
    pub up: u32,
}

/// Backends of a service with one priority, and what they get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TierView {
    /// Their priority; 0 is the highest.
    pub priority: u16,
    /// What they should get of the service's new flows now. Per cent.
    pub percent: f64,
    /// How many they are.
    pub backends: u32,
    /// How many of them get new flows.
    pub up: u32,
}

/// How far a service's table is on its way to the wanted one. Slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPhases {
    /// At rest: the slot names one backend.
    pub steady: u32,
    /// Changing over: old flows still go to the backend before, new ones to the next.
    pub migrating: u32,
    /// Changed over, waiting until no old flow can come back.
    pub settling: u32,
}

/// A backend of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub address: String,
    /// `configuration`, or the source that it is known from. Empty for backends that were removed.
    #[serde(default)]
    pub source: String,
    /// Share of new flows relative to the service's other backends; 0 = none. The operator's, if there is one.
    pub weight: u16,
    /// The weight in the configuration.
    #[serde(default)]
    pub configured_weight: u16,
    /// The share that it has now within its group and tier: less than its weight while it starts slowly or does worse than others, 0 while it is
    /// drained.
    #[serde(default)]
    pub share: u16,
    /// Its group; `default` if it names none. Empty for backends that were removed.
    #[serde(default)]
    pub group: String,
    /// Its tier; 0 is the highest.
    #[serde(default)]
    pub priority: u16,
    /// What it should get of the service's new flows now, by its share, its group's and its tier's. Per cent.
    #[serde(default)]
    pub percent: f64,
    /// Why it gets none though it could: its tier or its group; none otherwise.
    #[serde(default)]
    pub held_back: Option<String>,
    /// Why it gets none for a while, and for how long: it has failed clients; none otherwise.
    #[serde(default)]
    pub ejected: Option<String>,
    /// How often that was, since the agent started.
    #[serde(default)]
    pub ejections: u64,
    /// Whether its share grows with time, since it came up.
    #[serde(default)]
    pub starting: bool,
    /// How it does, which its share follows; none where shares do not.
    #[serde(default)]
    pub performance: Option<String>,
    /// Whether the operator gives it no new flows: it is drained, or in maintenance.
    #[serde(default)]
    pub drained: bool,
    /// Why its host is in maintenance; none while it is not.
    #[serde(default)]
    pub maintenance: Option<String>,
    /// `up`, `down`, `draining`, `maintenance`, `standby`, `ejected`, `removed`, `unknown` or `unresolved`.
    pub state: String,
    /// What the probes say; none when the service has no health check.
    pub health: Option<HealthView>,
    /// Where its packets go, as `eth0 02:00:00:00:00:01 mtu 1500`; none while unresolved.
    pub next_hop: Option<String>,
    /// Slots of the service's table that name it.
    pub slots: u32,
    /// Packets forwarded to it.
    pub packets: u64,
    /// Bytes of those packets, from the IP header on, as they came in.
    pub bytes: u64,
    /// Flows that began at it.
    pub new_flows: u64,
    /// Answers of its that were translated. None from agents that do not translate.
    #[serde(default)]
    pub replies: u64,
    /// Bytes of those answers, from the IP header on, as they came in.
    #[serde(default)]
    pub reply_bytes: u64,
    /// Translated connections that it refused.
    #[serde(default)]
    pub refused: u64,
    /// Translated connections that it did not answer, until nobody waited any more.
    #[serde(default)]
    pub unanswered: u64,
    /// Flows that are recorded and not closing; as of when, is said at the service's.
    #[serde(default)]
    pub recorded_flows: u64,
}

/// The verdict of the probes about one backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthView {
    /// `up`, `down` or `unknown`.
    pub state: String,
    /// Age of that verdict. Seconds.
    pub since_seconds: f64,
    /// Why the last failed probe failed; none when the last one succeeded.
    pub last_error: Option<String>,
    /// Duration of the last probe that succeeded. Milliseconds.
    pub latency_ms: Option<f64>,
    /// Its load, as it said last: 0 idle, 1 all that it can do.
    #[serde(default)]
    pub load: Option<f64>,
    /// Why it did not say its load, though its probes ask for it.
    #[serde(default)]
    pub load_error: Option<String>,
    /// Whether its probes succeed and it is held down, since it went down too often.
    #[serde(default)]
    pub damped: bool,
    /// Whether its probes fail and it stays up, since many fail at once.
    #[serde(default)]
    pub held: bool,
}

/// A flow that has an entry in the flow table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowView {
    /// Name of the service.
    pub service: String,
    /// The client, as `192.0.2.1:4242` or `[2001:db8::1]:4242`; port 0 with a service of any protocol.
    pub client: String,
    /// Address of the backend the flow is kept at.
    pub backend: String,
    /// `opening`, `established` or `closing`.
    pub state: String,
    /// Time since its last packet. Seconds.
    pub idle_seconds: f64,
}

/// How many flows have an entry that have something in common; without any of the names: all that were too many to tell
/// apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowCount {
    /// Name of their service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Address of the backend they are kept at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Address of their client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `opening`, `established` or `closing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How many.
    pub flows: u64,
}

/// What a reload did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Whether the file differs from what ran before.
    pub changed: bool,
    /// Names of services that are new.
    pub services_added: Vec<String>,
    /// Names of services that are gone.
    pub services_removed: Vec<String>,
    /// Names of services that changed.
    pub services_changed: Vec<String>,
    /// Keys whose change takes effect only with a restart of the agent.
    pub restart_needed: Vec<String>,
    /// Whether nothing was done.
    #[serde(default)]
    pub dry_run: bool,
    /// What becomes of each of those services. None from agents that do not say.
    #[serde(default)]
    pub services: Vec<ServiceChange>,
}

/// What a reload makes of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// Name of the service, the new one if it changes.
    pub service: String,
    /// What identifies it, as in a [`ServiceView`].
    pub key: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// Keys of the service that change.
    pub settings: Vec<SettingChange>,
    /// Addresses of backends that the configuration did not have.
    pub backends_added: Vec<String>,
    /// Addresses of backends that it has no more.
    pub backends_removed: Vec<String>,
    /// Backends of which it says something else.
    pub backends_changed: Vec<BackendChange>,
    /// Slots in the service's table.
    pub slots: u32,
    /// How many of them get another backend for new flows, once backends that are new are well and reached.
    pub slots_moved: u32,
}

/// A key that changes. Values that say little, or may hold a secret, are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// The key, within the service or the backend.
    pub key: String,
    /// Its value before; none also where there was none.
    pub from: Option<String>,
    /// Its value then; none also where there is none.
    pub to: Option<String>,
}

/// What a reload makes of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendChange {
    /// Address of the backend.
    pub address: String,
    /// Keys of the backend that change.
    pub settings: Vec<SettingChange>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What is wrong. May have several lines.
    pub error: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// What is ordered for a backend now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub backend: String,
    /// Whether the backend is drained now: it keeps its flows and gets no new ones.
    pub draining: bool,
    /// Its weight.
    pub weight: u16,
    /// Whether that is the one in the configuration.
    pub is_configured_weight: bool,
    /// Why this will not survive a restart of the agent; none when it will.
    pub forgotten: Option<String>,
}

/// How new flows of a service are split now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Name of the service.
    pub service: String,
    /// Its groups.
    pub groups: Vec<GroupView>,
    /// Whether no share is ordered.
    pub is_configured_split: bool,
    /// Why this will not survive a restart of the agent; none when it will.
    pub forgotten: Option<String>,
}

/// Whom a service serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardView {
    /// Name of the service.
    pub service: String,
    /// What becomes of clients that are in no prefix: `allow` or `deny`.
    pub others: String,
    /// Prefixes in the configuration, and in files that it names.
    pub configured: u64,
    /// What is ordered beside those, or instead.
    pub ordered: Vec<ClientOrderView>,
    /// Why the orders do not survive the agent; none if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<String>,
}

/// What is ordered about clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientOrderView {
    /// Whom it is about.
    pub prefix: String,
    /// What becomes of them: `allow` or `deny`.
    pub admittance: String,
    /// How long that lasts yet; none: until it is taken back. Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<f64>,
}

/// What maintenance of a host means now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceReport {
    /// Address of the host's backends.
    pub backend: String,
    /// Whether it is in maintenance.
    pub maintenance: bool,
    /// Names of the services that have it.
    pub services: Vec<String>,
    /// Why this will not survive a restart of the agent; none when it will.
    pub forgotten: Option<String>,
}

/// How far a drain is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub backend: String,
    /// Whether it gets no new flows.
    pub draining: bool,
    /// Slots that name it for new flows.
    pub slots: u32,
    /// Slots that send flows to it that are not recorded.
    pub leaving: u32,
    /// Recorded flows that it has, but those that are closing.
    pub flows: u64,
    /// Packets forwarded to it so far.
    pub packets: u64,
}

/// A report of a backend was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatReport {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub backend: String,
    /// Why it fails, in its words; none when it is well.
    pub failing: Option<String>,
    /// Its load, if it said so: 0 idle, 1 all that it can do.
    #[serde(default)]
    pub load: Option<f64>,
}
