//! Connection ids of QUIC services: how they are read, and whose the server ids in them are.
//!
//! A server id stands no longer than its backend. One of a backend that left the configuration stays as long as the
//! backend does, so that connections which live there go on, unless somebody else is to have it.

use super::Planner;
use crate::{
    dataplane::{Op, host_address},
    desired::Service,
};
use mesh_common::{
    abi::flag,
    quic::{ConfigKey, ServerIdKey},
};
use std::collections::{BTreeMap, BTreeSet};

/// The flags of a service.
pub(super) const fn flags(service: &Service) -> u32 {
    if service.quic.is_empty() { 0 } else { flag::QUIC }
}

impl Planner<'_> {
    /// Writes what is new, before packets go by it: server ids before the configurations by which they are found.
    pub(super) fn write_quic(&mut self, service: &Service, id: u32) {
        for (key, backend) in self.server_ids_of(service, id) {
            if let Some(backend) = backend.filter(|backend| self.server_ids.get(&key) != Some(backend)) {
                self.server_ids.insert(key, backend);
                self.plan.ops.push(Op::WriteServerId { key, backend });
            }
        }
        for config in &service.quic {
            let key = ConfigKey { service: id, rotation: config.rotation.into() };
            if self.actual.quic.get(&key) != Some(&config.parameters) {
                self.plan.ops.push(Op::WriteQuicConfig { key, parameters: config.parameters });
            }
        }
    }

    /// Removes what the service does not have any more, once no packet goes by it.
    pub(super) fn remove_quic(&mut self, service: &Service, id: u32) {
        let kept: BTreeMap<_, _> =
            service.quic.iter().map(|config| (u32::from(config.rotation), config.parameters)).collect();
        let configs =
            self.actual.quic.keys().filter(|key| key.service == id && !kept.contains_key(&key.rotation));
        self.plan.ops.extend(configs.map(|key| Op::RemoveQuicConfig(*key)));
        let owners = self.server_ids_of(service, id);
        let unchanged = |key: &ServerIdKey| {
            let config = ConfigKey { service: key.service, rotation: key.rotation };
            kept.get(&key.rotation).is_some_and(|kept| self.actual.quic.get(&config) == Some(kept))
        };
        let left = |backend: &u32| {
            let entry = self.actual.backends.get(backend);
            entry.is_some_and(|entry| !service.backends.contains_key(&host_address(entry.address)))
        };
        let stays = |key: &ServerIdKey, backend: &u32| match owners.get(key) {
            Some(owner) => owner.is_some(),
            None => unchanged(key) && left(backend),
        };
        let own = self.server_ids.iter().filter(|(key, _)| key.service == id);
        let gone: Vec<_> = own.filter(|(key, backend)| !stays(key, backend)).map(|(key, _)| *key).collect();
        self.remove_server_ids(&gone);
    }

    /// Removes what services have that are not `kept`.
    pub(super) fn retire_quic(&mut self, kept: &BTreeSet<u32>) {
        let configs = self.actual.quic.keys().filter(|key| !kept.contains(&key.service));
        self.plan.ops.extend(configs.map(|key| Op::RemoveQuicConfig(*key)));
        let gone: Vec<_> =
            self.server_ids.keys().filter(|key| !kept.contains(&key.service)).copied().collect();
        self.remove_server_ids(&gone);
    }

    /// Removes the server ids of backends that are about to go.
    pub(super) fn free_server_ids(&mut self, backends: &BTreeSet<u32>) {
        let theirs = self.server_ids.iter().filter(|(_, backend)| backends.contains(backend));
        let gone: Vec<_> = theirs.map(|(key, _)| *key).collect();
        self.remove_server_ids(&gone);
    }

    fn remove_server_ids(&mut self, keys: &[ServerIdKey]) {
        for key in keys {
            self.server_ids.remove(key);
            self.plan.ops.push(Op::RemoveServerId(*key));
        }
    }

    /// The ids of the backends that should have the server ids; `None` for backends that have no place yet.
    fn server_ids_of(&self, service: &Service, id: u32) -> BTreeMap<ServerIdKey, Option<u32>> {
        let each = service.quic.iter().flat_map(|config| {
            config.server_ids.iter().map(|(server_id, address)| {
                let key = ServerIdKey::new(id, config.rotation, &server_id.0);
                (key, self.ids.get(&(id, *address)).copied())
            })
        });
        each.collect()
    }
}
