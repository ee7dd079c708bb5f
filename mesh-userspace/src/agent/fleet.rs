//! Services that are defined elsewhere than in the files: taken over as a reload takes over those of the files.
//!
//! Invariants: what is not valid changes nothing; what has applied once is stored, and applies until something else is said.

use super::state::Agent;
use crate::{
    config::{Config, ConfigError, Defined, Definitions, Service, ServicesFrom, Source},
    discovery::{Report, Store, StoreError},
    events::{Happening, Kind},
};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// The directory of the definitions that apply, within the state directory.
const DIRECTORY: &str = "services-in-force";

/// More problems of definitions than this are counted, not shown.
const SHOWN: usize = 20;

/// The files, and the services that are defined elsewhere.
pub(super) struct Fleet {
    /// The files as they were read.
    files: Source,
    /// The services that they define.
    own: Vec<Service>,
    defined: Defined,
    store: Store,
    /// Whose definitions are stored.
    stored: Option<String>,
    /// Why what applies is not stored.
    unstored: Option<String>,
    /// Why nothing more can be taken over.
    trouble: Option<String>,
}

impl Fleet {
    /// Begins with what applied when the agent before ended.
    pub(super) fn new(files: Source, config: &Config) -> Self {
        let store = Store::within(&config.agent.state_directory, DIRECTORY);
        let from = config.services_from.as_ref().map(ToString::to_string);
        if let Err(error) = store.keep_only(from.iter()) {
            warn!(%error, "could not forget definitions of another source");
        }
        let good = config.services_from.as_ref().and_then(|from| recall(&store, from)).unwrap_or_default();
        let defined = Defined { good, ..Defined::default() };
        let own = config.services.clone();
        Self { files, own, defined, store, stored: None, unstored: None, trouble: None }
    }

    /// The names of the services that are defined elsewhere.
    pub(super) fn names(&self) -> Vec<String> {
        self.defined.good.keys().cloned().collect()
    }

    /// All services.
    fn services(&self) -> Vec<Service> {
        self.own.iter().chain(&self.defined.services).cloned().collect()
    }

    /// Takes over what applies now, and stores it. Answers what is to be told.
    fn adopt(&mut self, from: Option<&ServicesFrom>, defined: Defined) -> Vec<Happening> {
        let is_known = |it: &(&String, &String)| self.defined.refused.get(it.0) == Some(it.1);
        let mut told = Vec::new();
        for (name, reason) in defined.refused.iter().filter(|it| !is_known(it)) {
            warn!(service = name, reason, "did not take over the definition of a service");
            let message = format!("a definition was refused: {reason}");
            told.push(Happening::new(Kind::Discovery, message).of(name));
        }
        let (is_new, from) = (self.defined.good != defined.good, from.map(ToString::to_string));
        (self.defined, self.trouble) = (defined, None);
        if is_new || self.stored != from {
            info!(services = ?self.names(), "took over definitions of services");
            let kept = self.keep(from.as_deref());
            self.unstored = kept.err().map(|error| error.to_string());
            self.unstored.iter().for_each(|error| warn!(error, "could not store definitions of services"));
            self.stored = from;
        }
        told
    }

    /// Stores what applies, and nothing of another source.
    fn keep(&self, from: Option<&str>) -> Result<(), StoreError> {
        if let Some(from) = from {
            self.store.keep(from, SystemTime::now(), &self.defined.good)?;
        }
        self.store.keep_only(from.map(str::to_owned).iter())
    }
}

fn recall(store: &Store, from: &ServicesFrom) -> Option<Definitions> {
    let recalled = store.recall(&from.to_string());
    let recalled =
        recalled.inspect_err(|error| warn!(%error, "could not read the stored definitions of services"));
    recalled.ok().flatten().map(|(definitions, _)| definitions)
}

impl Agent {
    /// What applies beside files of what is defined elsewhere; until anything is said there, what applied before.
    pub(super) fn define(&self, files: &Source, config: &Config) -> Result<Defined, ConfigError> {
        let Some(from) = &config.services_from else { return Ok(Defined::default()) };
        let (definitions, good) = (self.inputs.definitions(), &self.fleet.defined.good);
        let report = definitions.get(&from.to_string());
        let said = report.and_then(|report| report.snapshot.as_deref()).unwrap_or(good);
        files.define(&from.etcd.prefix, said, good)
    }

    /// Takes over files, and what applies beside them.
    pub(super) fn take_over(&mut self, files: Source, config: Config, defined: Defined) {
        (self.fleet.files, self.fleet.own) = (files, config.services.clone());
        let told = self.fleet.adopt(config.services_from.as_ref(), defined);
        self.tell(told);
        self.go_by(Config { services: self.fleet.services(), ..config });
    }

    /// Takes over what applies now beside the files that are in force.
    pub(super) fn take_in_services(&mut self) {
        self.tell_of_sources();
        let own = Config { services: self.fleet.own.clone(), ..self.written.clone() };
        match self.define(&self.fleet.files, &own) {
            Err(error) => self.fleet.trouble = Some(error.summary()),
            Ok(defined) => {
                let is_new = self.fleet.defined.services != defined.services;
                let told = self.fleet.adopt(own.services_from.as_ref(), defined);
                self.tell(told);
                if is_new {
                    self.go_by(Config { services: self.fleet.services(), ..own });
                }
            }
        }
    }

    /// What somebody should look at.
    pub(super) fn fleet_problems(&self) -> Vec<String> {
        let Some(from) = &self.written.services_from else { return Vec::new() };
        let (fleet, mut problems) = (&self.fleet, Vec::new());
        if let Some(report) = self.inputs.definitions().get(&from.to_string()) {
            problems.extend(silence(from, report, SystemTime::now()));
            problems.extend(unstored(from, report.unstored.as_ref().or(fleet.unstored.as_ref())));
        }
        problems.extend(
            fleet.trouble.iter().map(|reason| format!("nothing of {from} can be taken over: {reason}")),
        );
        let refused = &fleet.defined.refused;
        problems.extend(refused.iter().take(SHOWN).map(|(name, reason)| {
            let is_there = fleet.defined.good.contains_key(name);
            let rest = if is_there { "the one before stays in force" } else { "none is in force" };
            format!("a definition of {from} is refused, {rest}: {reason}")
        }));
        if let Some(more @ 1..) = refused.len().checked_sub(SHOWN) {
            problems.push(format!("more definitions of {from} are refused: {more}"));
        }
        problems
    }
}

fn silence(from: &ServicesFrom, report: &Report<Definitions>, now: SystemTime) -> Option<String> {
    let error = report.error.as_ref()?;
    let since = report.age(now).map(|age| humantime::format_duration(Duration::from_secs(age.as_secs())));
    Some(match since {
        Some(age) => format!("{from} do not come, they are those of {age} ago: {error}"),
        None => format!("{from} do not come and never have: {error}"),
    })
}

fn unstored(from: &ServicesFrom, error: Option<&String>) -> Option<String> {
    error.map(|error| format!("what {from} are cannot be stored: {error}"))
}
