//! What is told to a collector: how changes came about, from their cause until the maps are written, and what happened.
//!
//! Invariant: what the tables that an agent starts with are made of is no change.

#[cfg(test)]
mod tests;

use super::{clock, inputs::Inputs, state::Agent};
use crate::{
    config::Service,
    dataplane::DataplaneError,
    discovery::{Snapshot, Word as _},
    events::{Event, Happening, Kind},
    health::{self, State, Turn},
    otlp::{self, Exporter, Log, Place, Span, number, text},
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use std::{
    collections::BTreeMap,
    mem,
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

/// What is told, and of what.
pub(super) struct Telemetry {
    exporter: Exporter,
    /// Whether events are told, too.
    has_logs: bool,
    /// Since when backends are what they are.
    seen: BTreeMap<health::Key, SystemTime>,
    /// What sources said last.
    heard: BTreeMap<String, Arc<Snapshot>>,
    /// Changes that are not in the maps yet.
    open: BTreeMap<Subject, Change>,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Whether a backend of a service answers.
    Backend { service: String, backend: IpAddr },
    /// What a source says.
    Source(String),
}

/// A trace that has no end yet.
#[derive(Clone, Debug)]
struct Change {
    place: Place,
    name: &'static str,
    begun: SystemTime,
    attributes: Vec<KeyValue>,
    /// Whether a failure to write the maps was told: it is tried again every second.
    has_failed: bool,
}

/// The maps were brought up to date, or not.
struct Reconciled {
    begun: SystemTime,
    ended: SystemTime,
    ops: usize,
    error: Option<String>,
}

impl Telemetry {
    pub(super) fn start(config: &crate::config::Otlp) -> Self {
        Self::new(Exporter::start(config), config.logs)
    }

    fn new(exporter: Exporter, has_logs: bool) -> Self {
        Self { exporter, has_logs, seen: BTreeMap::new(), heard: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// Takes note of what probes say, and begins a trace for each backend that has gone up or down.
    fn see(&mut self, inputs: &Inputs, services: &[Service], is_told: bool) {
        let verdicts = inputs.verdicts();
        for (key, verdict) in verdicts.iter() {
            if self.seen.get(key) == Some(&verdict.since) {
                continue;
            }
            self.seen.insert(*key, verdict.since);
            let service = services.iter().find(|service| service.key() == key.service);
            if let (true, Some(turn), Some(service)) = (is_told, &verdict.turn, service) {
                self.open_turn(&service.name, key.address, verdict.state, turn);
            }
        }
        if self.seen.len() > verdicts.len() {
            self.seen.retain(|key, _| verdicts.contains_key(key));
        }
    }

    fn open_turn(&mut self, service: &str, backend: IpAddr, state: State, turn: &Turn) {
        let name = match state {
            State::Up => "backend up",
            State::Down => "backend down",
            State::Unknown => return,
        };
        let Some(first) = turn.probes.first() else { return };
        let attributes = vec![
            text("meshlb.service", service),
            text("meshlb.backend", backend),
            text("meshlb.probe.kind", turn.kind),
        ];
        let place = Place::root();
        for probe in &turn.probes {
            self.exporter.send(Span {
                name: "probe",
                place: place.sibling(),
                parent: Some(place),
                begun: probe.begun,
                ended: probe.ended(),
                error: probe.error.clone(),
                attributes: attributes.clone(),
            });
        }
        let subject = Subject::Backend { service: service.to_owned(), backend };
        self.open(subject, Change { place, name, begun: first.begun, attributes, has_failed: false });
    }

    /// Takes note of what sources say, and begins a trace for each that says something else.
    fn hear(&mut self, inputs: &Inputs, is_told: bool) {
        let reports = inputs.reports();
        self.heard.retain(|source, _| reports.contains_key(source));
        for (source, report) in reports.iter() {
            let Some(snapshot) = &report.snapshot else { continue };
            if self.heard.get(source) == Some(snapshot) {
                continue;
            }
            self.heard.insert(source.clone(), Arc::clone(snapshot));
            if is_told {
                let instances = snapshot.count();
                let attributes = vec![text("meshlb.source", source), number("meshlb.instances", instances)];
                let begun = report.confirmed.unwrap_or_else(SystemTime::now);
                let (place, name) = (Place::root(), "discovery update");
                self.open(
                    Subject::Source(source.clone()),
                    Change { place, name, begun, attributes, has_failed: false },
                );
            }
        }
    }

    /// Begins a trace. One about the same that has no end yet ends without having been in the maps.
    fn open(&mut self, subject: Subject, change: Change) {
        if let Some(before) = self.open.insert(subject, change) {
            let error = "the next change came before the maps were written".to_owned();
            self.exporter.send(before.whole(SystemTime::now(), Some(error)));
        }
    }

    /// Tells of the maps in all open traces, which end with that if all went well.
    fn close(&mut self, reconciled: &Reconciled) {
        for change in self.open.values_mut() {
            if reconciled.error.is_none() || !mem::replace(&mut change.has_failed, true) {
                self.exporter.send(reconciled.within(change.place));
            }
        }
        if reconciled.error.is_none() {
            for change in mem::take(&mut self.open).into_values() {
                self.exporter.send(change.whole(reconciled.ended, None));
            }
        }
    }

    fn log_all(&self, events: &[Event]) {
        if self.has_logs {
            events.iter().for_each(|event| self.log(event));
        }
    }

    fn log(&self, event: &Event) {
        let what = &event.what;
        let mut attributes =
            vec![text("meshlb.event.kind", what.kind), text("meshlb.event.sequence", event.sequence)];
        attributes.extend(what.service.as_ref().map(|service| text("meshlb.service", service)));
        attributes.extend(what.backend.map(|backend| text("meshlb.backend", backend)));
        self.exporter.send(Log {
            time: event.time,
            is_trouble: what.is_trouble(),
            message: what.message.clone(),
            place: self.place_of(what),
            attributes,
        });
    }

    /// The trace of the change that something happened with.
    fn place_of(&self, what: &Happening) -> Option<Place> {
        let change = match (what.kind, &what.service, what.backend) {
            (Kind::Backend, Some(service), Some(backend)) => {
                self.open.get(&Subject::Backend { service: service.clone(), backend })
            }
            (Kind::Discovery, ..) => {
                let is_of = |subject: &Subject| match subject {
                    Subject::Source(source) => what.message.starts_with(&format!("{source} ")),
                    Subject::Backend { .. } => false,
                };
                self.open.iter().find(|(subject, _)| is_of(subject)).map(|(_, change)| change)
            }
            _ => None,
        };
        change.map(|change| change.place)
    }
}

impl Change {
    /// The span that all others are parts of.
    fn whole(self, ended: SystemTime, error: Option<String>) -> Span {
        let Self { place, name, begun, attributes, .. } = self;
        Span { name, place, parent: None, begun, ended, error, attributes }
    }
}

impl Reconciled {
    fn within(&self, place: Place) -> Span {
        Span {
            name: "reconcile",
            place: place.sibling(),
            parent: Some(place),
            begun: self.begun,
            ended: self.ended,
            error: self.error.clone(),
            attributes: vec![number("meshlb.ops", self.ops)],
        }
    }
}

impl Agent {
    /// Takes note of what sources say.
    pub(super) fn trace_sources(&mut self) {
        let is_told = self.is_ready();
        if let Some(telemetry) = &mut self.telemetry {
            telemetry.hear(&self.inputs, is_told);
        }
    }

    /// Takes note of what probes say.
    pub(super) fn trace_verdicts(&mut self, is_told: bool) {
        if let Some(telemetry) = &mut self.telemetry {
            telemetry.see(&self.inputs, &self.config.services, is_told);
        }
    }

    /// Tells that the maps were brought up to date since then, or why not.
    pub(super) fn trace_reconciled(&mut self, since: Instant, done: &Result<usize, DataplaneError>) {
        let Some(telemetry) = &mut self.telemetry else { return };
        if telemetry.open.is_empty() {
            return;
        }
        let (ended, took) = (SystemTime::now(), clock::now().saturating_duration_since(since));
        let begun = ended.checked_sub(took).unwrap_or(ended);
        let (ops, error) = match done {
            Ok(ops) => (*ops, None),
            Err(error) => (0, Some(error.to_string())),
        };
        telemetry.close(&Reconciled { begun, ended, ops, error });
    }

    /// Tells what happened.
    pub(super) fn log_events(&self, events: &[Event]) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.log_all(events);
        }
    }

    /// Tells what is left to tell, and nothing any more.
    pub(super) fn tell_no_more(&mut self) {
        if let Some(telemetry) = self.telemetry.take() {
            telemetry.exporter.finish();
        }
    }

    /// What somebody should look at.
    pub(super) fn telemetry_problem(&self) -> Option<String> {
        self.telemetry.as_ref().and_then(|telemetry| telemetry.exporter.problem())
    }

    /// What became of what was told.
    pub(super) fn telemetry_tally(&self) -> otlp::Tally {
        self.telemetry.as_ref().map(|telemetry| telemetry.exporter.tally()).unwrap_or_default()
    }
}
