//! What the program knows of QUIC connection ids: hash maps of the kernel, whose elements change as a whole.

use super::{DataplaneError, Plain};
use aya::maps::{HashMap, MapData, MapError, PerCpuArray};
use mesh_common::quic::{Config, ConfigKey, Parameters, Routed, ServerIdKey};
use std::{collections::BTreeMap, io::ErrorKind};

/// The maps in the kernel.
pub(super) struct QuicMaps {
    configs: HashMap<MapData, Plain<ConfigKey>, Plain<Config>>,
    server_ids: HashMap<MapData, Plain<ServerIdKey>, u32>,
    packets: PerCpuArray<MapData, u64>,
}

impl QuicMaps {
    pub(super) const CONFIGS: &str = "QUIC_CONFIGS";
    pub(super) const SERVER_IDS: &str = "SERVER_IDS";
    pub(super) const PACKETS: &str = "QUIC_PACKETS";

    pub(super) const fn new(
        configs: HashMap<MapData, Plain<ConfigKey>, Plain<Config>>,
        server_ids: HashMap<MapData, Plain<ServerIdKey>, u32>,
        packets: PerCpuArray<MapData, u64>,
    ) -> Self {
        Self { configs, server_ids, packets }
    }

    pub(super) fn configs(&self) -> Result<BTreeMap<ConfigKey, Parameters>, DataplaneError> {
        let read = |element: Result<(Plain<ConfigKey>, Plain<Config>), MapError>| {
            let (Plain(key), Plain(config)) = element.map_err(failed(Self::CONFIGS, "read"))?;
            Ok(config.parameters().map(|parameters| (key, parameters)))
        };
        self.configs.iter().map(read).filter_map(Result::transpose).collect()
    }

    pub(super) fn write_config(&mut self, key: ConfigKey, config: &Config) -> Result<(), DataplaneError> {
        self.configs.insert(Plain(key), Plain(*config), 0).map_err(failed(Self::CONFIGS, "write"))
    }

    pub(super) fn remove_config(&mut self, key: ConfigKey) -> Result<(), DataplaneError> {
        gone(self.configs.remove(&Plain(key))).map_err(failed(Self::CONFIGS, "remove"))
    }

    pub(super) fn server_ids(&self) -> Result<BTreeMap<ServerIdKey, u32>, DataplaneError> {
        let read = |element: Result<(Plain<ServerIdKey>, u32), MapError>| {
            let (Plain(key), backend) = element.map_err(failed(Self::SERVER_IDS, "read"))?;
            Ok((key, backend))
        };
        self.server_ids.iter().map(read).collect()
    }

    pub(super) fn write_server_id(&mut self, key: ServerIdKey, backend: u32) -> Result<(), DataplaneError> {
        self.server_ids.insert(Plain(key), backend, 0).map_err(failed(Self::SERVER_IDS, "write"))
    }

    pub(super) fn remove_server_id(&mut self, key: ServerIdKey) -> Result<(), DataplaneError> {
        gone(self.server_ids.remove(&Plain(key))).map_err(failed(Self::SERVER_IDS, "remove"))
    }

    pub(super) fn routed(&self) -> Result<BTreeMap<(Routed, u32), u64>, DataplaneError> {
        let read = |(way, rotation): (Routed, u32)| {
            let counter =
                self.packets.get(&way.counter(rotation), 0).map_err(failed(Self::PACKETS, "read"))?;
            Ok(((way, rotation), counter.iter().copied().fold(0, u64::wrapping_add)))
        };
        Routed::counters().map(read).collect()
    }
}

/// What is not there need not be removed.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn failed(map: &'static str, action: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map, action, source: source.into() }
}
