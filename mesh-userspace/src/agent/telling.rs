//! What the agent remembers for people: events, in memory and on disk.

use super::state::Agent;
use crate::{
    api::types::ReloadReport,
    discovery::{self, Report},
    events::{self, Event, Happening, Journal, Kind, Log, Question, Reasons},
    health::{self, Outliers, Verdict},
    nexthop::Resolution,
};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::SystemTime};
use tracing::error;

/// All that is remembered.
pub(super) struct Memoir {
    log: Log,
    journal: Journal,
    /// Why events do not survive the agent; none when they do.
    pub(super) unwritten: Option<String>,
    /// What sources said last.
    heard: BTreeMap<String, Word>,
}

/// What a source says, as far as events tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    state: &'static str,
    entries: usize,
    /// What entries are.
    what: &'static str,
}

impl Word {
    /// Beside it, why the source says nothing else.
    fn of<W: discovery::Word>(report: &Report<W>, what: &'static str) -> (Self, Option<String>) {
        let entries = report.snapshot.as_ref().map_or(0, |snapshot| snapshot.count());
        (Self { state: report.state(), entries, what }, report.error.clone())
    }
}

impl Memoir {
    /// Goes on from what was remembered in a state directory.
    pub(super) fn recall(state_directory: PathBuf) -> Self {
        let journal = Journal::within(state_directory);
        Self { log: Log::of(journal.read()), journal, unwritten: None, heard: BTreeMap::new() }
    }

    pub(super) fn answer(&self, question: &Question) -> Vec<Event> {
        self.log.answer(question)
    }

    /// Answers with what happened as events.
    fn note(&mut self, happenings: Vec<Happening>) -> Vec<Event> {
        if happenings.is_empty() {
            return Vec::new();
        }
        let events = self.log.note(happenings, SystemTime::now());
        let written = self.journal.append(&events);
        let unwritten = written.err().map(|error| format!("events are not kept on disk: {error}"));
        if self.unwritten.is_none()
            && let Some(problem) = &unwritten
        {
            error!(problem, "events will be forgotten with the next start");
        }
        self.unwritten = unwritten;
        events
    }
}

/// What probes and routes say.
pub(super) struct Known<'a> {
    pub(super) verdicts: &'a BTreeMap<health::Key, Verdict>,
    pub(super) next_hops: &'a BTreeMap<IpAddr, Resolution>,
    pub(super) outliers: &'a Outliers,
}

impl Reasons for Known<'_> {
    fn down(&self, backend: &health::Key) -> Option<String> {
        self.verdicts.get(backend)?.last_error.clone()
    }

    fn ejected(&self, backend: &health::Key) -> Option<String> {
        Some(self.outliers.of(backend)?.reason.clone())
    }

    fn unreached(&self, address: IpAddr) -> Option<String> {
        match self.next_hops.get(&address)? {
            Resolution::Unresolved { reason, .. } => Some(reason.clone()),
            Resolution::Resolved(_) => None,
        }
    }
}

impl Agent {
    /// Remembers what happened.
    pub(super) fn tell(&mut self, happenings: Vec<Happening>) {
        let events = self.memoir.note(happenings);
        self.log_events(&events);
    }

    /// Remembers what is new about the sources.
    pub(super) fn tell_of_sources(&mut self) {
        let (mut happenings, mut heard) = (Vec::new(), BTreeMap::new());
        let (definitions, reports) = (self.inputs.definitions(), self.inputs.reports());
        let services = definitions.iter().map(|(source, report)| (source, Word::of(report, "definitions")));
        let backends = reports.iter().map(|(source, report)| (source, Word::of(report, "instances")));
        for (source, (word, error)) in services.chain(backends) {
            if self.memoir.heard.get(source) != Some(&word) {
                let said = said(source, &word, error.as_deref());
                happenings.extend(said.map(|it| Happening::new(Kind::Discovery, it)));
            }
            heard.insert(source.clone(), word);
        }
        drop((definitions, reports));
        self.memoir.heard = heard;
        self.tell(happenings);
    }

    /// Remembers what a reload did.
    pub(super) fn tell_of_reload(&mut self, report: &ReloadReport) {
        if !report.changed {
            return;
        }
        let parts = [
            ("added", &report.services_added),
            ("changed", &report.services_changed),
            ("removed", &report.services_removed),
            ("takes effect with a restart only", &report.restart_needed),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {}", events::some_of(names)))
            .collect();
        let what = if parts.is_empty() { "no service changed".to_owned() } else { parts.join("; ") };
        self.tell(vec![Happening::new(Kind::Reload, format!("the configuration was reloaded; {what}"))]);
    }
}

fn said(source: &str, word: &Word, error: Option<&str>) -> Option<String> {
    let Word { state, entries, what } = word;
    match (*state, error) {
        ("live", _) => Some(format!("{source} says {entries} {what}")),
        ("stale", Some(error)) => {
            Some(format!("{source} does not answer, its last {entries} {what} stand: {error}"))
        }
        (_, Some(error)) => Some(format!("{source} does not answer and never has: {error}")),
        (_, None) => None,
    }
}
