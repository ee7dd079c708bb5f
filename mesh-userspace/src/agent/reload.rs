//! A new configuration while the agent runs: all of it or nothing.

use super::{clock, command::CommandError, state::Agent};
use crate::{
    api::types::{BackendChange, ReloadReport, ServiceChange, SettingChange},
    config::{
        Config, ConfigError, Defined, ServiceKey, Source,
        difference::{self, Fate, Setting},
    },
    dataplane::host_address,
    desired::{Desired, Inputs, desired},
    discovery::combine,
    events::{Happening, Kind},
    health::{self, State, Verdict},
    maglev,
    nexthop::{NextHop, Resolution},
    supervisor,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::SystemTime,
};
use tracing::{info, warn};

/// The way to a backend that nobody has asked for yet.
const SOME_HOP: NextHop = NextHop {
    ifindex: 0,
    source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    source_mac: [0; 6],
    destination_mac: [0; 6],
    mtu: 0,
    direct: true,
    is_here: false,
};

/// What becomes of services, in reports.
const ADDED: &str = "added";
const REMOVED: &str = "removed";
const CHANGED: &str = "changed";

impl Agent {
    /// Reads the configuration again and acts on what changed. An invalid one changes nothing; what takes a restart
    /// stays as it is and is named.
    pub(super) fn reload(&mut self) -> Result<ReloadReport, CommandError> {
        self.reload_from(Source::read(self.watched.path()))
    }

    /// The same, when the files may have changed; nothing, when they have not.
    pub(super) fn reload_changed(&mut self) {
        let source = Source::read(self.watched.path());
        let is_new = match &source {
            Ok(source) => self.watched.is_new(source),
            Err(error) => self.refused.as_deref() != Some(&*error.summary()),
        };
        if is_new && let Err(error) = self.reload_from(source) {
            warn!(%error, "did not reload, the configuration before stays in force");
        }
    }

    fn reload_from(&mut self, source: Result<Source, ConfigError>) -> Result<ReloadReport, CommandError> {
        // Whoever waits for the start would take the end of a reload for it.
        if !self.is_ready() {
            return self.replace_by(source);
        }
        supervisor::reloading();
        let reloaded = self.replace_by(source);
        supervisor::reloaded(&self.occupation());
        reloaded
    }

    /// What the agent does, in a line.
    pub(super) fn occupation(&self) -> String {
        let services = self.config.services.len();
        match &self.refused {
            None => format!("services: {services}"),
            Some(error) => format!("services: {services}, as before; the file was refused: {error}"),
        }
    }

    fn replace_by(&mut self, source: Result<Source, ConfigError>) -> Result<ReloadReport, CommandError> {
        self.reopen_flow_log();
        if let Ok(source) = &source {
            self.watched.is_new(source);
        }
        let valid = source.and_then(|source| {
            let config = source.parse()?;
            let defined = self.hear_and_define(&source, &config)?;
            Ok((source, config, defined))
        });
        let (source, config, defined) = valid.map_err(|error| {
            self.reloads.count(false);
            self.refused = Some(error.summary());
            let message = format!("the configuration was refused: {}", error.summary());
            self.tell(vec![Happening::new(Kind::Reload, message)]);
            refusal(&error)
        })?;
        let report = self.report(&config, &defined);
        self.refused = None;
        self.watched.follow(&config);
        // What takes a restart stays.
        let Config { include, services_from, services, .. } = config;
        let config = Config { include, services_from, services, ..self.written.clone() };
        self.take_over(source, config, defined);
        self.reloads.count(true);
        for key in &report.restart_needed {
            warn!(key, "takes effect with a restart only");
        }
        info!(changed = report.changed, "reloaded the configuration");
        self.tell_of_reload(&report);
        Ok(report)
    }

    /// Asks where services are defined now, and hears it out: or a service that moves there from the file would be none
    /// in between.
    fn hear_and_define(&mut self, files: &Source, config: &Config) -> Result<Defined, ConfigError> {
        self.inputs.ask_for_services(config.services_from.as_ref());
        self.inputs.hear_of_services();
        let defined = self.define(files, config);
        if defined.is_err() {
            self.inputs.ask_for_services(self.written.services_from.as_ref());
        }
        defined
    }

    /// What a reload would do.
    pub(super) fn reload_plan(&self) -> Result<ReloadReport, CommandError> {
        let valid = Source::read(self.watched.path()).and_then(|source| {
            let config = source.parse()?;
            let defined = self.define(&source, &config)?;
            Ok((config, defined))
        });
        let (config, defined) = valid.map_err(|error| refusal(&error))?;
        Ok(ReloadReport { dry_run: true, ..self.report(&config, &defined) })
    }

    fn report(&self, file: &Config, defined: &Defined) -> ReloadReport {
        let all = file.services.iter().chain(&defined.services).cloned().collect();
        let new = &Config { services: all, ..file.clone() };
        let services = Config { services: new.services.clone(), ..self.written.clone() };
        let combined = combine(&services, &self.inputs.reports()).config;
        let fates = self.written.fates(&services);
        // Tables are not filled to learn that nothing changes.
        let hoped = if fates.is_empty() { Desired::default() } else { self.hoped(&combined) };
        let services: Vec<_> = fates.iter().map(|(key, fate)| self.change(*key, *fate, &hoped)).collect();
        let names = |what| {
            let such = services.iter().filter(|change: &&ServiceChange| change.change == what);
            such.map(|change| change.service.clone()).collect()
        };
        ReloadReport {
            dry_run: false,
            changed: self.written != *new,
            services_added: names(ADDED),
            services_removed: names(REMOVED),
            services_changed: names(CHANGED),
            restart_needed: self.written.restart_needed(new).into_iter().map(str::to_owned).collect(),
            services,
        }
    }

    /// What should be with another configuration, if all backends that are new in it are well and can be reached.
    fn hoped(&self, new: &Config) -> Desired {
        let (mut verdicts, mut next_hops) = (self.inputs.verdicts().clone(), self.inputs.next_hops().clone());
        for service in &new.services {
            for backend in &service.backends {
                let key = health::Key { service: service.key(), address: backend.address };
                let well = Verdict { state: State::Up, ..Verdict::unknown(SystemTime::UNIX_EPOCH) };
                verdicts.entry(key).or_insert(well);
                next_hops.entry(backend.address).or_insert(Resolution::Resolved(SOME_HOP));
            }
        }
        let mut overrides = self.overrides.clone();
        overrides.forget_missing(new);
        desired(Inputs {
            config: new,
            verdicts: &verdicts,
            next_hops: &next_hops,
            overrides: &overrides,
            factors: &self.factors,
            outliers: &self.outliers,
            local: self.local.way,
            now: clock::now(),
        })
    }

    fn change(&self, key: ServiceKey, fate: Fate<'_>, hoped: &Desired) -> ServiceChange {
        let owners = self.owners(key);
        let wanted = || hoped.services.get(&key);
        let change = ServiceChange { key: key.to_string(), ..ServiceChange::default() };
        match fate {
            Fate::Added(service) => ServiceChange {
                service: service.name.clone(),
                change: ADDED.to_owned(),
                backends_added: service.backends.iter().map(|it| it.address.to_string()).collect(),
                slots: service.table_size(),
                slots_moved: service.table_size(),
                ..change
            },
            Fate::Removed(service) => ServiceChange {
                service: service.name.clone(),
                change: REMOVED.to_owned(),
                backends_removed: service.backends.iter().map(|it| it.address.to_string()).collect(),
                slots: number(owners.len()),
                slots_moved: number(owners.len()),
                ..change
            },
            Fate::Changed { old, new } => {
                let difference::Backends { added, removed, changed } =
                    difference::backends(&old.backends, &new.backends);
                let texts = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect();
                ServiceChange {
                    service: new.name.clone(),
                    change: CHANGED.to_owned(),
                    settings: difference::settings(old, new).into_iter().map(setting).collect(),
                    backends_added: texts(added),
                    backends_removed: texts(removed),
                    backends_changed: changed.into_iter().map(backend).collect(),
                    slots: number(owners.len()),
                    slots_moved: wanted().map_or(0, |service| moved(&owners, &service.shares())),
                    ..change
                }
            }
        }
    }

    /// Who has each slot of a service now.
    fn owners(&self, key: ServiceKey) -> Vec<Option<IpAddr>> {
        let backends = &self.reconciler.actual().backends;
        let address = |id| backends.get(&id).map(|entry| host_address(entry.address));
        self.slots_of(key).map(|slot| address(slot.current())).collect()
    }
}

fn refusal(error: &ConfigError) -> CommandError {
    CommandError::invalid(error.to_string()).advise("nothing was changed")
}

/// How many slots get another owner when a table is filled by these shares.
fn moved(owners: &[Option<IpAddr>], shares: &[maglev::Share]) -> u32 {
    let filled = maglev::fill(number(owners.len()), shares);
    let owner = |index: Option<usize>| index.and_then(|index| shares.get(index)).map(|share| share.address);
    number(owners.iter().zip(filled).filter(|(before, after)| **before != owner(*after)).count())
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn setting(Setting { key, from, to }: Setting) -> SettingChange {
    SettingChange { key: key.to_owned(), from, to }
}

fn backend((address, settings): (IpAddr, Vec<Setting>)) -> BackendChange {
    let settings = settings.into_iter().map(setting).collect();
    BackendChange { address: address.to_string(), settings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maglev::Share;

    #[test]
    fn moved_slots_are_those_that_change_their_owner() {
        let share = |last: u8| Share { address: [10, 0, 0, last].into(), weight: 1 };
        let owners = |shares: &[Share]| -> Vec<_> {
            maglev::fill(1021, shares).into_iter().map(|it| it.map(|at| shares[at].address)).collect()
        };
        let (one, two) = ([share(1)], [share(1), share(2)]);
        assert_eq!(moved(&owners(&one), &one), 0);
        assert!([510, 511].contains(&moved(&owners(&one), &two)));
        assert_eq!(moved(&owners(&two), &[]), 1021);
        assert_eq!(moved(&[None; 1021], &one), 1021);
    }
}
