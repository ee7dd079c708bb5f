//! The flow tables of both families, as the agent looks through them.

use super::{DataplaneError, Flow, Plain};
use aya::maps::{HashMap, Map, MapData, MapError};
use mesh_common::{
    abi::{FlowKey4, FlowKey6},
    flow::FlowRecord,
};
use std::net::{IpAddr, SocketAddr};

type Table<K> = HashMap<MapData, Plain<K>, Plain<FlowRecord>>;

pub(super) struct FlowMaps {
    v4: Table<FlowKey4>,
    v6: Table<FlowKey6>,
    /// Most records of each family.
    capacity: usize,
}

/// The client's side of a flow as the kernel keeps it.
trait Key: Copy {
    fn flow(self, record: FlowRecord) -> Flow;
}

macro_rules! key {
    ($type:ty) => {
        impl Key for $type {
            fn flow(self, record: FlowRecord) -> Flow {
                let client = SocketAddr::new(IpAddr::from(self.address), u16::from_be_bytes(self.port));
                Flow { client, service: self.service, record }
            }
        }
    };
}

key!(FlowKey4);
key!(FlowKey6);

impl FlowMaps {
    pub(super) fn new(v4: Map, v6: Map, capacity: u32) -> Result<Self, MapError> {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Ok(Self { v4: HashMap::try_from(v4)?, v6: HashMap::try_from(v6)?, capacity })
    }

    pub(super) fn retain(&mut self, visit: &mut dyn FnMut(&Flow) -> bool) -> Result<(), DataplaneError> {
        retain(&mut self.v4, "FLOWS4", self.capacity, visit)?;
        retain(&mut self.v6, "FLOWS6", self.capacity, visit)
    }
}

/// The walk ends: it is bounded by the table's size, should keys that vanish meanwhile send it back to the start.
fn retain<K: Key>(
    table: &mut Table<K>,
    map: &'static str,
    bound: usize,
    visit: &mut dyn FnMut(&Flow) -> bool,
) -> Result<(), DataplaneError>
where
    Plain<K>: aya::Pod,
{
    let failed =
        |action| move |source: MapError| DataplaneError::Map { map, action, source: Box::new(source) };
    let mut dropped = Vec::new();
    for entry in table.iter().take(bound) {
        let (key, Plain(record)) = entry.map_err(failed("walk"))?;
        if !visit(&key.0.flow(record)) {
            dropped.push(key);
        }
    }
    for key in dropped {
        match table.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(failed("delete")(error)),
        }
    }
    Ok(())
}
