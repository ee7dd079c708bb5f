//! The file that makes orders survive the agent.
//!
//! Invariant: at its path is always a whole file: a new one takes the place of the old in one step, once it is on the
//! disk.

use super::{ClientOrder, Maintenance, Override, Overrides, by_text};
use crate::{
    config::{Admittance, Config, Group, ServiceKey},
    health,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Changes when an older agent could not read the file.
const VERSION: u32 = 1;

const NAME: &str = "overrides.json";

/// Only the agent's user may read what the operator said.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why orders are not kept, or were not found.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system refuses.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what this agent writes.
    #[error("{} is not understood: {reason}", .path.display())]
    NotUnderstood {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The file in the state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverridesFile {
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    backends: Vec<SavedBackend>,
    maintenance: Vec<SavedMaintenance>,
    #[serde(default)]
    splits: Vec<SavedSplit>,
    #[serde(default)]
    clients: Vec<SavedClients>,
}

#[derive(Serialize, Deserialize)]
struct SavedClients {
    service: String,
    prefix: IpNet,
    admittance: Admittance,
    /// Seconds since 1970.
    until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct SavedBackend {
    /// VIP, ports and protocol, as [`crate::config::ServiceKey`] shows them.
    service: String,
    backend: IpAddr,
    drained: bool,
    weight: Option<u16>,
}

#[derive(Serialize, Deserialize)]
struct SavedSplit {
    service: String,
    shares: BTreeMap<String, u16>,
}

#[derive(Serialize, Deserialize)]
struct SavedMaintenance {
    backend: IpAddr,
    reason: String,
    /// Seconds since 1970.
    until: Option<u64>,
}

impl OverridesFile {
    /// The one in a directory, which need not exist yet.
    #[must_use]
    pub const fn within(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What was saved for the services of a configuration; nothing, where there is no file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or not be understood.
    pub fn load(&self, config: &Config) -> Result<Overrides, StateError> {
        let path = self.directory.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overrides::default()),
            Err(source) => return Err(StateError::Io { action: "read", path, source }),
        };
        let not_understood = |reason: String| StateError::NotUnderstood { path: path.clone(), reason };
        let saved: Saved =
            serde_json::from_slice(&bytes).map_err(|error| not_understood(error.to_string()))?;
        if saved.version != VERSION {
            return Err(not_understood(format!(
                "it has version {}, this agent writes {VERSION}",
                saved.version
            )));
        }
        Ok(restored(saved, config))
    }

    /// Puts orders in the place of those before.
    ///
    /// # Errors
    ///
    /// The disk is full, or the directory not writable.
    pub fn save(&self, overrides: &Overrides) -> Result<(), StateError> {
        let directory = &self.directory;
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)
            .map_err(failed("make", directory))?;
        let (path, fresh) = (directory.join(NAME), directory.join(format!("{NAME}.new")));
        let text = serde_json::to_vec_pretty(&saved(overrides)).map_err(|error| StateError::Io {
            action: "write",
            path: fresh.clone(),
            source: io::Error::from(error),
        })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&fresh)
            .map_err(failed("make", &fresh))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(failed("replace", &path))?;
        File::open(directory).and_then(|it| it.sync_all()).map_err(failed("write", directory))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

fn saved(overrides: &Overrides) -> Saved {
    let backend = |(key, order): (&health::Key, &Override)| SavedBackend {
        service: key.service.to_string(),
        backend: key.address,
        drained: order.drained,
        weight: order.weight,
    };
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let maintenance = |(address, work): (&IpAddr, &Maintenance)| SavedMaintenance {
        backend: *address,
        reason: work.reason.clone(),
        until: work.until.map(seconds),
    };
    let clients = |(service, ordered): (&ServiceKey, &BTreeMap<IpNet, ClientOrder>)| {
        let service = service.to_string();
        let one = |(prefix, order): (&IpNet, &ClientOrder)| SavedClients {
            service: service.clone(),
            prefix: *prefix,
            admittance: order.admittance,
            until: order.until.map(seconds),
        };
        ordered.iter().map(one).collect::<Vec<_>>()
    };
    let split = |(service, shares): (&ServiceKey, &BTreeMap<Group, u16>)| SavedSplit {
        service: service.to_string(),
        shares: shares.iter().map(|(group, share)| (group.to_string(), *share)).collect(),
    };
    Saved {
        version: VERSION,
        backends: overrides.backends.iter().map(backend).collect(),
        maintenance: overrides.maintenance.iter().map(maintenance).collect(),
        splits: overrides.splits.iter().map(split).collect(),
        clients: overrides.clients.iter().flat_map(clients).collect(),
    }
}

/// Orders for services that are gone are forgotten.
fn restored(saved: Saved, config: &Config) -> Overrides {
    let services = by_text(config);
    let backend = |SavedBackend { service, backend, drained, weight }| {
        let key = health::Key { service: *services.get(&service)?, address: backend };
        Some((key, Override { drained, weight }))
    };
    let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let maintenance = |SavedMaintenance { backend, reason, until }| {
        (backend, Maintenance { reason, until: until.and_then(time) })
    };
    let split = |SavedSplit { service, shares }| {
        let shares = shares.iter().map(|(group, share)| (Group::named(group), *share)).collect();
        Some((*services.get(&service)?, shares))
    };
    let mut clients: BTreeMap<ServiceKey, BTreeMap<IpNet, ClientOrder>> = BTreeMap::new();
    for SavedClients { service, prefix, admittance, until } in saved.clients {
        if let Some(service) = services.get(&service) {
            let order = ClientOrder { admittance, until: until.and_then(time) };
            clients.entry(*service).or_default().insert(prefix, order);
        }
    }
    Overrides {
        clients,
        backends: saved.backends.into_iter().filter_map(backend).collect(),
        maintenance: saved.maintenance.into_iter().map(maintenance).collect(),
        splits: saved.splits.into_iter().filter_map(split).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, key};
    use super::*;

    fn ordered(config: &Config) -> Overrides {
        let mut overrides = Overrides::default();
        overrides.set(key(config, "10.0.0.1"), |order| order.drained = true);
        overrides.set(key(config, "fd00::1"), |order| order.weight = Some(0));
        let until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        let work = |reason: &str, until| Maintenance { reason: reason.into(), until };
        overrides.begin_maintenance("10.0.0.1".parse().unwrap(), work("\"disk\"\n", until));
        overrides.begin_maintenance("fd00::1".parse().unwrap(), work("", None));
        let shares = [(Group::default(), 80), (Group::named("canary"), 20)];
        overrides.order_split(config.services[0].key(), &shares.into());
        let order = |admittance, until| ClientOrder { admittance, until };
        let service = config.services[0].key();
        overrides.order_clients(service, "192.0.2.0/24".parse().unwrap(), order(Admittance::Deny, until));
        overrides.order_clients(service, "2001:db8::7/128".parse().unwrap(), order(Admittance::Allow, None));
        overrides
    }

    #[test]
    fn what_was_saved_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = OverridesFile::within(directory.path().join("not/there/yet"));
        let config = config(&["10.0.0.1", "fd00::1"]);
        assert_eq!(file.load(&config).unwrap(), Overrides::default());
        let overrides = ordered(&config);
        file.save(&overrides).unwrap();
        assert_eq!(file.load(&config).unwrap(), overrides);
        file.save(&Overrides::default()).unwrap();
        assert_eq!(file.load(&config).unwrap(), Overrides::default());
    }

    #[test]
    fn orders_for_services_that_are_gone_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = OverridesFile::within(directory.path().into());
        let before = config(&["10.0.0.1", "fd00::1"]);
        file.save(&ordered(&before)).unwrap();
        let mut after = before;
        after.services.clear();
        assert!(file.load(&after).unwrap().backends.is_empty());
    }

    #[test]
    fn what_is_no_such_file_is_said_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (file, path) = (OverridesFile::within(directory.path().into()), directory.path().join(NAME));
        for (text, reason) in [
            ("", "EOF"),
            ("{}", "missing field"),
            ("{\"version\":9,\"backends\":[],\"maintenance\":[]}", "version 9"),
        ] {
            fs::write(&path, text).unwrap();
            let error = file.load(&config(&[])).unwrap_err().to_string();
            assert!(error.contains(NAME) && error.contains(reason), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("file");
        fs::write(&blocked, "").unwrap();
        let error = OverridesFile::within(blocked.join("state")).save(&Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("cannot make"), "{error}");
    }
}
