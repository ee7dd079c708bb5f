//! From what the programs noted to what it means.

use super::{Bench, Case, steps::steps};
use crate::{
    agent::{
        command::CommandError,
        flows::FlowState,
        state::{Agent, ifindex},
    },
    api::types::{
        BackendSlots, BackendView, ConnectionIdView, ExplainedBackend, ExplainedFlow, ExplainedGuard,
        ExplainedRecord, ExplainedService, ExplainedSlot, ExplainedTranslation, Explanation, NotChosen,
        PacketView, PickView, RecordView,
    },
    config,
    dataplane::{Load, abi_key, host_address, kernel::Explained, lasting},
    headers::{Tunnel, headers},
};
use mesh_common::{
    abi::{BackendEntry, forward, protocol, whole},
    flow::{FlowRecord, Segment, Signs},
    hash,
    notes::{Notes, step},
    outcome::{Outcome, Verdict},
    quic::Routed,
    slot::{Phase, Slot},
};
use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, time::Duration};

/// The most services that are named as those which a packet is not for.
const MOST_OTHERS: usize = 20;

impl Agent {
    /// What runs packets, and the interface that one comes in by: its name and index.
    pub(in crate::agent) fn bench(
        &mut self,
        interface: Option<&str>,
    ) -> Result<(Bench, String, u32), CommandError> {
        let first = || self.config.agent.interfaces.first().cloned();
        let name = interface.map(str::to_owned).or_else(first).unwrap_or_default();
        let index = ifindex(&name).ok_or_else(|| {
            CommandError::not_found(format!("there is no interface {name:?} on this host"))
                .advise("see the names with: ip link")
        })?;
        let bench =
            self.bench.get_or_insert_with(|| Bench::new(self.reconciler.dataplane().recipe().clone()));
        Ok((bench.clone(), name, index))
    }

    /// What became of a packet, and what would have if something were otherwise.
    pub(in crate::agent) fn account(&self, case: &Case) -> Result<Explanation, CommandError> {
        let Case { question, interface, explained: Explained { notes, output } } = case;
        let outcome = outcome(notes);
        let service = self.service_of(notes);
        let backend = self.explained_backend(notes, service);
        let tunnels = self.tunnels(notes);
        let leaves = matches!(outcome.verdict(), Verdict::Transmit | Verdict::Redirect);
        let prospect = match question.assumptions.as_slice() {
            [] => None,
            assumptions => Some(self.prospect(notes, service, assumptions)?),
        };
        let mut explanation = Explanation {
            interface: interface.clone(),
            packet: packet_view(&question.packet, &tunnels),
            outcome: outcome.label().to_owned(),
            meaning: outcome.about().to_owned(),
            verdict: verdict(outcome).to_owned(),
            certain: !notes.has(step::PICKED),
            flow: explained_flow(notes),
            service: notes.has(step::SERVICE).then(|| self.explained_service(notes, service)),
            other_services: self.not_chosen(notes, service),
            guard: service.and_then(|service| self.explained_guard(notes, service)),
            connection_id: connection_id(notes),
            slot: self.explained_slot(notes),
            record: self.explained_record(notes),
            translation: translation(notes),
            pick: self.pick(notes),
            backend,
            output: leaves.then(|| packet_view(output, &tunnels)),
            steps: Vec::new(),
            prospect,
        };
        let next = self.config.agent.next_program.as_deref();
        explanation.steps = steps(&explanation, notes, outcome, next);
        Ok(explanation)
    }

    /// The service that the programs found, if it is configured still.
    fn service_of(&self, notes: &Notes) -> Option<&config::Service> {
        let found = notes.journey.service.key;
        let is_found = |service: &&config::Service| abi_key(service.key()) == found;
        self.config.services.iter().filter(|_| notes.has(step::SERVICE)).find(is_found)
    }

    fn explained_service(&self, notes: &Notes, service: Option<&config::Service>) -> ExplainedService {
        let key = notes.journey.service.key;
        ExplainedService {
            name: service.map_or_else(String::new, |service| service.name.clone()),
            key: service.map_or_else(String::new, |service| service.key().to_string()),
            scheduler: service.map_or_else(String::new, |service| service.scheduler.to_string()),
            matched: if key.is_wide() { "wide" } else { "exact" }.to_owned(),
        }
    }

    fn explained_guard(&self, notes: &Notes, service: &config::Service) -> Option<ExplainedGuard> {
        let guard = self.overrides.guard(service)?;
        let (admittance, net) = guard.verdict(host_address(whole(notes.journey.client)));
        Some(ExplainedGuard {
            admittance: admittance.to_string(),
            prefix: net.map(|net| net.to_string()),
            ordered: net.is_some_and(|net| guard.ordered.contains_key(&net)),
        })
    }

    /// Services that have the address that the packet is to, and why it is not for them.
    fn not_chosen(&self, notes: &Notes, chosen: Option<&config::Service>) -> Vec<NotChosen> {
        if !notes.has(step::READ) {
            return Vec::new();
        }
        let (destination, number) = (destination(notes), notes.journey.destination.protocol());
        let has_address = |service: &&config::Service| service.vip.contains(&destination.ip());
        let is_other = |service: &&config::Service| chosen.is_none_or(|chosen| chosen.key() != service.key());
        let others = self.config.services.iter().filter(has_address).filter(is_other).take(MOST_OTHERS);
        others
            .map(|service| NotChosen {
                service: service.name.clone(),
                key: service.key().to_string(),
                reason: why_not(service, destination, number, self.entry(service.key()).is_some()),
            })
            .collect()
    }

    fn explained_slot(&self, notes: &Notes) -> Option<ExplainedSlot> {
        let slot = Slot(notes.slot);
        let size = notes.journey.service.size;
        notes.has(step::SLOT).then(|| ExplainedSlot {
            index: hash::slot(notes.journey.slot_hash, size),
            of: size,
            phase: phase(slot).to_owned(),
            new_flows: self.address_of(slot.current()),
            unrecorded_flows: self.address_of(slot.untracked()),
            consults: slot.consults(),
            records: slot.records(),
        })
    }

    fn explained_record(&self, notes: &Notes) -> Option<ExplainedRecord> {
        let view = |record: &FlowRecord| self.record_view(record, notes);
        let found = notes.has(step::FOUND).then(|| view(&notes.found));
        let written = notes.has(step::WRITTEN).then(|| view(&notes.written));
        let asked = notes.has(step::SLOT) && (Slot(notes.slot).consults() || notes.has(step::PICKED));
        (asked || found.is_some()).then_some(ExplainedRecord { found, written })
    }

    fn record_view(&self, record: &FlowRecord, notes: &Notes) -> RecordView {
        RecordView {
            backend: self.address_of(record.backend).unwrap_or_else(|| "nobody".to_owned()),
            alive: self.entry_of(record.backend).is_some_and(|entry| entry.alive != 0),
            state: FlowState::of(record.state).name().to_owned(),
            idle_seconds: lasting(record.idle(notes.now)).as_secs_f64(),
        }
    }

    fn pick(&self, notes: &Notes) -> Option<PickView> {
        if !notes.has(step::PICKED) {
            return None;
        }
        let slots = self.reconciler.actual().slots_of(&notes.journey.service).map(|(_, slot)| slot);
        let flows = |id: &u32| {
            let address = self.address_of(*id).unwrap_or_else(|| "nobody".to_owned());
            format!("{address} with {} flows", self.reconciler.load(Load::Backend(*id)))
        };
        let compared = if notes.has(step::COMPARED) { notes.compared.as_slice() } else { &[] };
        Some(PickView {
            picked: self.address_of(notes.picked),
            compared: compared.iter().map(flows).collect(),
            possible: self.owners_of(slots),
        })
    }

    /// Who gets new flows of these slots, and of how many.
    pub(super) fn owners_of(&self, slots: impl Iterator<Item = Slot>) -> Vec<BackendSlots> {
        let mut owned = BTreeMap::<u32, u32>::new();
        slots
            .filter(|slot| slot.current() != 0)
            .for_each(|slot| *owned.entry(slot.current()).or_default() += 1);
        let view = |(id, slots)| Some(BackendSlots { backend: self.address_of(id)?, slots });
        owned.into_iter().filter_map(view).collect()
    }

    fn explained_backend(
        &self,
        notes: &Notes,
        service: Option<&config::Service>,
    ) -> Option<ExplainedBackend> {
        let id = notes.journey.backend;
        let entry = self.entry_of(id).filter(|_| notes.has(step::CHOSEN))?;
        let address = host_address(entry.address);
        let views = self.backend_views();
        // Of a fragment nobody looks for the service: it is that of the backend.
        let service = service.or_else(|| {
            let is_his = |service: &&config::Service| {
                self.entry(service.key()).is_some_and(|it| it.id == entry.service)
            };
            self.config.services.iter().find(is_his)
        });
        let name = service.map_or("", |service| service.name.as_str());
        let view = views.iter().find(|view| view.service == name && view.address == address.to_string());
        Some(ExplainedBackend {
            address: address.to_string(),
            id,
            state: view.map_or_else(|| "removed".to_owned(), |view| view.state.clone()),
            reason: reason(notes).to_owned(),
            eligible: view.map_or_else(String::new, |view| eligible(view, notes)),
            forward: service.map_or_else(String::new, |service| service.forward.to_string()),
            next_hop: view.and_then(|view| view.next_hop.clone()),
            room: entry.room,
        })
    }

    fn entry_of(&self, id: u32) -> Option<&BackendEntry> {
        self.reconciler.actual().backends.get(&id)
    }

    pub(super) fn address_of(&self, id: u32) -> Option<String> {
        self.entry_of(id).map(|entry| host_address(entry.address).to_string())
    }

    /// Which ports the packet's backend unwraps, so that what is wrapped can be shown.
    fn tunnels(&self, notes: &Notes) -> Vec<(u16, Tunnel)> {
        let entry = self.entry_of(notes.journey.backend).filter(|_| notes.has(step::CHOSEN));
        let tunnel = |entry: &BackendEntry| match entry.forward {
            forward::GUE_IPV4 | forward::GUE_IPV6 => Some((entry.port, Tunnel::Gue)),
            forward::GENEVE_IPV4 | forward::GENEVE_IPV6 => Some((entry.port, Tunnel::Geneve)),
            _ => None,
        };
        entry.and_then(tunnel).into_iter().collect()
    }
}

/// How the journey ended; the programs of this agent know no other ends.
pub(super) fn outcome(notes: &Notes) -> Outcome {
    let index = usize::try_from(notes.outcome).unwrap_or(usize::MAX);
    Outcome::ALL.get(index).copied().unwrap_or(Outcome::Unhandled)
}

pub(crate) const fn verdict(outcome: Outcome) -> &'static str {
    match outcome.verdict() {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::Transmit => "transmit",
        Verdict::Redirect => "redirect",
    }
}

/// Bytes in hexadecimal digits.
pub(in crate::agent) fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A String takes all that is written.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn packet_view(bytes: &[u8], tunnels: &[(u16, Tunnel)]) -> PacketView {
    PacketView { hex: hex(bytes), headers: headers(bytes, tunnels) }
}

fn explained_flow(notes: &Notes) -> Option<ExplainedFlow> {
    let journey = &notes.journey;
    notes.has(step::READ | step::FOLLOWED).then(|| ExplainedFlow {
        client: SocketAddr::new(host_address(whole(journey.client)), u16::from_be(journey.port)).to_string(),
        destination: destination(notes).to_string(),
        protocol: protocol_name(journey.destination.protocol()),
        segment: segment_name(journey.signs).to_owned(),
        hash: notes.has(step::SERVICE | step::FOLLOWED).then(|| format!("{:016x}", journey.hash)),
    })
}

fn destination(notes: &Notes) -> SocketAddr {
    let key = notes.journey.destination;
    SocketAddr::new(host_address(whole(key.address())), u16::from_be_bytes(key.port()))
}

pub(in crate::agent) fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        number => number.to_string(),
    }
}

pub(in crate::agent) const fn segment_name(signs: Signs) -> &'static str {
    match signs.segment() {
        Segment::Opening => "opening",
        Segment::Closing => "closing",
        Segment::Established => "established",
        Segment::Datagram => "datagram",
        Segment::Related => "related",
    }
}

fn translation(notes: &Notes) -> Option<ExplainedTranslation> {
    let connection = [(step::CONNECTS, "new"), (step::CONNECTED, "known"), (step::REPLY, "reply")];
    let (_, connection) = connection.into_iter().find(|(step, _)| notes.has(*step))?;
    let to = &notes.journey.to;
    let end = |address, port| SocketAddr::new(host_address(whole(address)), u16::from_be(port)).to_string();
    Some(ExplainedTranslation {
        connection: connection.to_owned(),
        source: end(to.source, to.source_port),
        destination: end(to.destination, to.destination_port),
    })
}

fn connection_id(notes: &Notes) -> Option<ConnectionIdView> {
    let routed = Routed::ALL.get(usize::try_from(notes.routed).ok()?)?;
    let view = ConnectionIdView { routed: routed.label().to_owned(), rotation: notes.rotation };
    notes.has(step::ROUTED).then_some(view)
}

pub(in crate::agent) const fn phase(slot: Slot) -> &'static str {
    match slot.phase() {
        Phase::Steady => "steady",
        Phase::Migrating => "migrating",
        Phase::Settling => "settling",
    }
}

/// Why a service that has the address does not get the packet.
fn why_not(service: &config::Service, to: SocketAddr, number: u8, is_there: bool) -> String {
    let wanted = match service.protocol {
        config::Protocol::Any => None,
        config::Protocol::Tcp => Some(protocol::TCP),
        config::Protocol::Udp | config::Protocol::Quic => Some(protocol::UDP),
    };
    if !is_there {
        return "it is not in the kernel's tables".to_owned();
    }
    if wanted.is_some_and(|wanted| wanted != number) {
        return format!("its protocol is {}, the packet's is {}", service.protocol, protocol_name(number));
    }
    if !service.ports.contain(to.port()) {
        return format!("its port is {}, the packet is for {}", service.ports, to.port());
    }
    "a more specific one has the packet".to_owned()
}

/// Why the packet's backend is the one that it is.
fn reason(notes: &Notes) -> &'static str {
    let slot = Slot(notes.slot);
    let stays = notes.has(step::FOUND) && notes.found.backend == notes.journey.backend;
    if notes.has(step::FOLLOWED) {
        "the first fragment of the packet went there"
    } else if notes.has(step::CONNECTED) {
        "its connection is there"
    } else if !notes.has(step::SLOT) {
        "the connection id names it"
    } else if notes.has(step::PICKED) {
        "the scheduler picked it for a new flow"
    } else if stays {
        "the flow is recorded there"
    } else if notes.has(step::FOUND) {
        "the recorded flow is over or lost its backend, and this one gets new flows of the slot"
    } else if notes.journey.backend == slot.current() {
        "the slot is its"
    } else {
        "the flow is not recorded, and this one has the slot's flows from before"
    }
}

/// Why a backend may have packets, new flows or only those that it has.
fn eligible(view: &BackendView, notes: &Notes) -> String {
    let health = match &view.health {
        None => "it is not probed".to_owned(),
        Some(health) => {
            let since =
                humantime::format_duration(Duration::from_secs_f64(health.since_seconds.max(0.0).trunc()));
            let held = if health.held { ", and stays up since many fail at once" } else { "" };
            format!("its probes say {} for {since}{held}", health.state)
        }
    };
    let share = match view.share {
        0 => "no share of new flows".to_owned(),
        share => format!("a share of {share} (weight {}) of new flows", view.weight),
    };
    let size = notes.journey.service.size;
    let slots =
        if notes.has(step::SERVICE) { format!(", {} of {size} slots", view.slots) } else { String::new() };
    format!("{}: {health}; {share}{slots}", view.state)
}
