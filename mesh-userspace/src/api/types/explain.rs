//! What would become of a packet, and why.

use serde::{Deserialize, Serialize};

/// What would become of a packet now, step by step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The interface that it comes in by.
    pub interface: String,
    /// The packet.
    pub packet: PacketView,
    /// How its journey ends, as the counters name it.
    pub outcome: String,
    /// What that means.
    pub meaning: String,
    /// `pass`, `drop`, `transmit` or `redirect`.
    pub verdict: String,
    /// Whether this very packet would end so. If not, chance or the turn of a processor has a say: the answer is one of
    /// those possible.
    pub certain: bool,
    /// Whom it is from and to; none where it has no flow.
    pub flow: Option<ExplainedFlow>,
    /// The service that it is for.
    pub service: Option<ExplainedService>,
    /// Other services with its address, and why it is not for them.
    pub other_services: Vec<NotChosen>,
    /// What the service's guard says of its client; none without a guard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<ExplainedGuard>,
    /// What led a packet of a QUIC service to its backend.
    pub connection_id: Option<ConnectionIdView>,
    /// The slot of the service's table that its hash leads to.
    pub slot: Option<ExplainedSlot>,
    /// What the flow table says of its flow; none where nobody asked.
    pub record: Option<ExplainedRecord>,
    /// What becomes of its addresses and ports, if they are translated.
    #[serde(default)]
    pub translation: Option<ExplainedTranslation>,
    /// How the scheduler picked a slot for a new flow.
    pub pick: Option<PickView>,
    /// The backend that it is for.
    pub backend: Option<ExplainedBackend>,
    /// The packet as it leaves; none where it is passed on or dropped.
    pub output: Option<PacketView>,
    /// All of that in sentences, in the order in which the programs went.
    pub steps: Vec<StepView>,
    /// What would be, if something were otherwise.
    pub prospect: Option<Prospect>,
}

/// What a guard says of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedGuard {
    /// `allow` or `deny`.
    pub admittance: String,
    /// The longest prefix that the client is in; none: it is in none.
    pub prefix: Option<String>,
    /// Whether the operator has ordered that, beside the configuration.
    pub ordered: bool,
}

/// A packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketView {
    /// Its bytes from the Ethernet header on, in hexadecimal digits.
    pub hex: String,
    /// Its headers from the outermost on, one line each.
    pub headers: Vec<String>,
}

/// A flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedFlow {
    /// The client, as `192.0.2.1:4242` or `[2001:db8::1]:4242`.
    pub client: String,
    /// Whom it is to, in the same form. Of an ICMP error, this is the flow that it is about.
    pub destination: String,
    /// `tcp`, `udp` or a number.
    pub protocol: String,
    /// What the packet does to the flow: `opening`, `established`, `closing`, `datagram` or `related`.
    pub segment: String,
    /// The hash of the flow under the seed, in hexadecimal digits; none where no service was found.
    pub hash: Option<String>,
}

/// The service of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedService {
    /// Its name; empty if it is no longer configured.
    pub name: String,
    /// What identifies it, as `203.0.113.10:80/tcp`.
    pub key: String,
    /// Its scheduler.
    pub scheduler: String,
    /// `exact` if it owns one port of one address, else `wide`.
    pub matched: String,
}

/// A service that a packet is not for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotChosen {
    /// Its name.
    pub service: String,
    /// What identifies it.
    pub key: String,
    /// Why not.
    pub reason: String,
}

/// How a packet of a QUIC service found its backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionIdView {
    /// `connection_id`, or why it goes by the hash of its flow.
    pub routed: String,
    /// The codepoint of the id.
    pub rotation: u32,
}

/// A slot of a service's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSlot {
    /// Its index in the table.
    pub index: u32,
    /// Slots in the table.
    pub of: u32,
    /// `steady`, `migrating` or `settling`.
    pub phase: String,
    /// Address of the backend that gets new flows; none if nobody does.
    pub new_flows: Option<String>,
    /// Address of the backend that has the flows that are not recorded.
    pub unrecorded_flows: Option<String>,
    /// Whether the flow table is asked.
    pub consults: bool,
    /// Whether flows become recorded here.
    pub records: bool,
}

/// What the flow table says of a flow, and what it would say after the packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainedRecord {
    /// As it was found; none where the flow is not recorded.
    pub found: Option<RecordView>,
    /// As the packet would leave it; none where it would not be written.
    pub written: Option<RecordView>,
}

/// A flow's record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordView {
    /// Address of the backend.
    pub backend: String,
    /// Whether flows may stay there.
    pub alive: bool,
    /// `opening`, `established` or `closing`.
    pub state: String,
    /// Time since its last packet. Seconds.
    pub idle_seconds: f64,
}

/// What becomes of a packet's addresses and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedTranslation {
    /// `known` if its connection is, `new` if one begins, `reply` if a backend answers.
    pub connection: String,
    /// Whom it comes from then, as `10.0.0.1:4242` or `[fd00::1]:4242`.
    pub source: String,
    /// Whom it is to then.
    pub destination: String,
}

/// How a slot was picked for a new flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PickView {
    /// Address of the backend that was picked this time.
    pub picked: Option<String>,
    /// The two that `least-connections` drew, and the flows that they have, as `10.0.1.1 with 7 flows`.
    pub compared: Vec<String>,
    /// Everybody who may be picked, with the slots that they have.
    pub possible: Vec<BackendSlots>,
}

/// How much of a service's table a backend has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendSlots {
    /// Its address.
    pub backend: String,
    /// Slots whose new flows it gets.
    pub slots: u32,
}

/// The backend of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedBackend {
    /// Its address.
    pub address: String,
    /// Its id in the maps.
    pub id: u32,
    /// Its state, as in a list of backends.
    pub state: String,
    /// Why it is the packet's.
    pub reason: String,
    /// Why it may have packets: what its probes say, and its share.
    pub eligible: String,
    /// How packets reach it: `l2`, `ipip`, `gue`, `geneve` or `nat`.
    pub forward: String,
    /// Where they go next, as `eth0 02:00:00:00:00:01 mtu 1500`; none while there is no way.
    pub next_hop: Option<String>,
    /// The longest packet, from its own IP header on, that the way takes. Bytes.
    pub room: u16,
}

/// What a step of the programs found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// `packet`, `flow`, `service`, `fragment`, `quic`, `slot`, `record`, `pick`, `backend`, `next hop`, `outcome`.
    pub step: String,
    /// A sentence.
    pub finding: String,
}

/// What would be, if something were otherwise. Computed by the planner from what the agent knows, without the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prospect {
    /// What would be otherwise.
    pub assumed: Vec<String>,
    /// Who would get a new flow like this one.
    pub new_flow: ProspectiveFlow,
    /// Who would get this packet.
    pub this_flow: ProspectiveFlow,
    /// Slots of the service's table that would give new flows to another backend.
    pub slots_moved: u32,
    /// The table as it would be.
    pub slots: Vec<BackendSlots>,
}

/// Who gets a flow, and who would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProspectiveFlow {
    /// Addresses of those who may get it now; more than one where chance has a say.
    pub now: Vec<String>,
    /// Addresses of those who would.
    pub then: Vec<String>,
}
