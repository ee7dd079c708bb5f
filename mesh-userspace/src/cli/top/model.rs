//! What `meshlb top` shows, and what keys make of it. Pure: samples and keys in, orders out.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use crate::api::types::{BackendView, ServiceHealth, ServiceView, Status};
use crate::cli::screens;

/// Samples that sparklines go back, a column each.
pub(super) const HISTORY: u16 = 12;

/// All that the agent says at a moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) services: Vec<ServiceView>,
    pub(super) backends: Vec<BackendView>,
}

/// Per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) packets: f64,
    pub(super) bytes: f64,
    pub(super) flows: f64,
}

/// A line of the table: a service, or a backend of the service that is looked into.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Name or address.
    pub(super) name: String,
    /// What it is now: `ok`, `panic`, or the backend's state.
    pub(super) state: String,
    /// Backends that are up of all, or share of new flows.
    pub(super) share: String,
    pub(super) rates: Rates,
    pub(super) recorded: u64,
    /// Packets a second, oldest first.
    pub(super) history: Vec<u64>,
    /// Why it is so, if that is known.
    pub(super) reason: String,
}

/// By which column rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    Packets,
    Bytes,
    Flows,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Name => Self::Packets,
            Self::Packets => Self::Bytes,
            Self::Bytes => Self::Flows,
            Self::Flows => Self::Name,
        }
    }
}

/// What a key means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Enter,
    Back,
    Erase,
    Letter(char),
}

/// What the operator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Drain { service: String, backend: IpAddr },
    Undrain { service: String, backend: IpAddr },
}

/// What is being typed or asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Looking,
    /// The filter is typed.
    Filtering,
    /// An action waits for a yes.
    Asking(Action),
}

/// All that is shown.
#[derive(Debug, Default)]
pub(super) struct Model {
    last: Option<Sample>,
    /// Rates by service, and by service and backend.
    rates: BTreeMap<(String, Option<String>), Rates>,
    history: BTreeMap<(String, Option<String>), VecDeque<u64>>,
    /// Packets a second by outcome, those that are not zero.
    outcomes: Vec<(String, f64)>,
    /// Which service is looked into; none: all of them are listed.
    pub(super) inside: Option<String>,
    selected: usize,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// What went wrong, or was done.
    pub(super) message: String,
}

/// Counters that are compared between samples.
type Counters = BTreeMap<(String, Option<String>), [u64; 3]>;

fn counters(sample: &Sample) -> Counters {
    let service = |it: &ServiceView| ((it.name.clone(), None), [it.packets, it.bytes, it.new_flows]);
    let backend = |it: &BackendView| {
        ((it.service.clone(), Some(it.address.clone())), [it.packets, it.bytes, it.new_flows])
    };
    sample.services.iter().map(service).chain(sample.backends.iter().map(backend)).collect()
}

/// How fast a counter rose; one that was reset did not.
fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate has few digits")]
    let rose = now.saturating_sub(before) as f64;
    if seconds > 0.0 { rose / seconds } else { 0.0 }
}

impl Model {
    /// Takes what the agent says now.
    pub(super) fn take(&mut self, sample: Sample) {
        if let Some(last) = &self.last {
            let seconds = sample.at.saturating_duration_since(last.at).as_secs_f64();
            let (now, before) = (counters(&sample), counters(last));
            let rates = |(key, [packets, bytes, flows]): (_, [u64; 3])| {
                let then = before.get(&key).copied().unwrap_or([packets, bytes, flows]);
                let [was_packets, was_bytes, was_flows] = then;
                let rates = Rates {
                    packets: rate(packets, was_packets, seconds),
                    bytes: rate(bytes, was_bytes, seconds),
                    flows: rate(flows, was_flows, seconds),
                };
                (key, rates)
            };
            self.rates = now.into_iter().map(rates).collect();
            let was = &last.status.outcomes;
            let risen = sample.status.outcomes.iter().map(|(name, count)| {
                (name.clone(), rate(*count, was.get(name).copied().unwrap_or(0), seconds))
            });
            self.outcomes = risen.filter(|(_, rate)| *rate > 0.0).collect();
            self.outcomes.sort_by(|one, other| other.1.total_cmp(&one.1));
            self.remember();
        }
        let is_gone = |name: &String| sample.services.iter().all(|service| service.name != *name);
        if self.inside.as_ref().is_some_and(is_gone) {
            self.leave();
        }
        self.last = Some(sample);
        self.selected = self.selected.min(self.rows().len().saturating_sub(1));
    }

    fn remember(&mut self) {
        let Self { rates, history, .. } = self;
        history.retain(|key, _| rates.contains_key(key));
        for (key, rates) in rates {
            let line = history.entry(key.clone()).or_default();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are counts")]
            line.push_back(rates.packets.round() as u64);
            line.drain(..line.len().saturating_sub(HISTORY.into()));
        }
    }

    /// The agent at a glance, once it has answered.
    pub(super) fn status(&self) -> Option<&Status> {
        self.last.as_ref().map(|sample| &sample.status)
    }

    /// Packets a second by outcome, the most first.
    pub(super) fn outcomes(&self) -> &[(String, f64)] {
        &self.outcomes
    }

    /// Which row is pointed at.
    pub(super) const fn selected(&self) -> usize {
        self.selected
    }

    /// The rows of the table, filtered and sorted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let Some(sample) = &self.last else { return Vec::new() };
        let mut rows: Vec<Row> = match &self.inside {
            None => sample.services.iter().map(|service| self.service(service, &sample.status)).collect(),
            Some(name) => {
                let own = sample.backends.iter().filter(|backend| backend.service == *name);
                own.map(|backend| self.backend(backend)).collect()
            }
        };
        rows.retain(|row| row.name.contains(&self.filter) || row.state.contains(&self.filter));
        rows.sort_by(|one, other| self.order(one, other));
        rows
    }

    fn order(&self, one: &Row, other: &Row) -> Ordering {
        let by = |value: fn(&Row) -> f64| value(other).total_cmp(&value(one));
        let first = match self.sort {
            Sort::Name => Ordering::Equal,
            Sort::Packets => by(|row| row.rates.packets),
            Sort::Bytes => by(|row| row.rates.bytes),
            Sort::Flows => by(|row| row.rates.flows),
        };
        first.then_with(|| one.name.cmp(&other.name))
    }

    fn row(&self, key: &(String, Option<String>)) -> Row {
        let history = self.history.get(key).map(|line| line.iter().copied().collect()).unwrap_or_default();
        Row {
            name: key.1.as_ref().unwrap_or(&key.0).clone(),
            state: String::new(),
            share: String::new(),
            rates: self.rates.get(key).copied().unwrap_or_default(),
            recorded: 0,
            history,
            reason: String::new(),
        }
    }

    fn service(&self, service: &ServiceView, status: &Status) -> Row {
        let down = status.services.iter().find(|it| it.service == service.name).map_or(0, |it| it.down);
        let health = ServiceHealth { up: service.up, down, panic: service.panic, ..ServiceHealth::default() };
        let changing = service.slots.migrating + service.slots.settling;
        Row {
            state: screens::state(&health).to_owned(),
            share: format!("{}/{}", service.up, service.backends),
            recorded: service.recorded_flows,
            reason: if changing > 0 { format!("{changing} slots change over") } else { service.key.clone() },
            ..self.row(&(service.name.clone(), None))
        }
    }

    fn backend(&self, backend: &BackendView) -> Row {
        let error = backend.health.as_ref().and_then(|health| health.last_error.clone());
        let reason = error.or_else(|| backend.maintenance.clone()).unwrap_or_default();
        Row {
            state: backend.state.clone(),
            share: format!("{}/{}", backend.share, backend.weight),
            recorded: backend.recorded_flows,
            reason,
            ..self.row(&(backend.service.clone(), Some(backend.address.clone())))
        }
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: Key) -> Option<Action> {
        match std::mem::take(&mut self.mode) {
            Mode::Looking => self.look(key),
            Mode::Filtering => {
                self.type_filter(key);
                None
            }
            Mode::Asking(action) => {
                if key == Key::Letter('y') {
                    return Some(action);
                }
                self.message = "nothing was done".to_owned();
                None
            }
        }
    }

    fn look(&mut self, key: Key) -> Option<Action> {
        match key {
            Key::Letter('q') => return Some(Action::Quit),
            Key::Up | Key::Letter('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down | Key::Letter('j') => {
                self.selected = (self.selected + 1).min(self.rows().len().saturating_sub(1));
            }
            Key::Letter('s') => self.sort = self.sort.next(),
            Key::Letter('/') => self.mode = Mode::Filtering,
            Key::Enter if self.inside.is_none() => self.enter(),
            Key::Back if self.inside.is_some() => self.leave(),
            Key::Back => self.filter.clear(),
            Key::Letter('d') => self.ask(|service, backend| Action::Drain { service, backend }),
            Key::Letter('u') => self.ask(|service, backend| Action::Undrain { service, backend }),
            Key::Enter | Key::Erase | Key::Letter(_) => {}
        }
        None
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Letter(letter) => self.filter.push(letter),
            Key::Erase => drop(self.filter.pop()),
            Key::Back => self.filter.clear(),
            Key::Up | Key::Down | Key::Enter => {}
        }
        self.selected = 0;
        if matches!(key, Key::Letter(_) | Key::Erase) {
            self.mode = Mode::Filtering;
        }
    }

    fn enter(&mut self) {
        if let Some(row) = self.rows().get(self.selected) {
            self.inside = Some(row.name.clone());
            self.filter.clear();
            self.selected = 0;
        }
    }

    fn leave(&mut self) {
        let name = self.inside.take();
        self.filter.clear();
        self.selected = self.rows().iter().position(|row| Some(&row.name) == name.as_ref()).unwrap_or(0);
    }

    /// Asks whether the backend that is pointed at shall be treated so.
    fn ask(&mut self, action: impl FnOnce(String, IpAddr) -> Action) {
        let backend = self.rows().get(self.selected).and_then(|row| row.name.parse().ok());
        match (self.inside.clone(), backend) {
            (Some(service), Some(backend)) => self.mode = Mode::Asking(action(service, backend)),
            _ => self.message = "choose a backend first: enter looks into a service".to_owned(),
        }
    }
}
