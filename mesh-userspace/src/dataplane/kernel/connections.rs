//! Connections as the agent looks through them: the kernel's hash maps, read in batches.

use super::{DataplaneError, Flow, Plain, syscalls};
use crate::dataplane::host_address;
use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap as _, MapData},
};
use mesh_common::{
    abi::whole,
    connection::{Connection, Reply, Sources},
    flow::Ticks,
    tuple::Tuple,
};
use std::{collections::BTreeMap, net::SocketAddr, os::fd::AsFd as _};

/// Elements read by one call.
const BATCH: usize = 4096;

/// A client that got no answer for this long has said it again: the first timeout of TCP is one second (RFC 6298, 2.1).
const SILENCE: Ticks = 2;

/// The maps of connections.
pub(super) struct Connections {
    connections: HashMap<MapData, Plain<Tuple>, Plain<Connection>>,
    replies: HashMap<MapData, Plain<Tuple>, Plain<Reply>>,
    sources: Array<MapData, Plain<Sources>>,
    translates: Array<MapData, u32>,
    /// Connections that ended unanswered, by backends, since somebody asked.
    unanswered: BTreeMap<u32, u64>,
    /// Connections of which nothing has come back, by backends, at the last look.
    silent: BTreeMap<u32, u64>,
    /// Connections that the last look found.
    count: u64,
}

/// The clients' directions.
pub(super) const CONNECTIONS: &str = "CONNECTIONS";
/// The backends' directions.
pub(super) const REPLIES: &str = "REPLIES";
/// Where translated packets come from.
pub(super) const SOURCES: &str = "SOURCES";
/// What SYN cookies are baked with.
pub(super) const COOKIE_KEY: &str = "COOKIE_KEY";
/// Whether there are any.
pub(super) const TRANSLATES: &str = "TRANSLATES";

impl Connections {
    pub(super) const fn new(
        connections: HashMap<MapData, Plain<Tuple>, Plain<Connection>>,
        replies: HashMap<MapData, Plain<Tuple>, Plain<Reply>>,
        sources: Array<MapData, Plain<Sources>>,
        translates: Array<MapData, u32>,
    ) -> Self {
        Self {
            connections,
            replies,
            sources,
            translates,
            unanswered: BTreeMap::new(),
            silent: BTreeMap::new(),
            count: 0,
        }
    }

    /// From now on packets of nobody that we know are looked at: they may be answers.
    pub(super) fn expect(&mut self) -> Result<(), DataplaneError> {
        self.translates.set(0, 1, 0).map_err(|source| failed(TRANSLATES, "write", source))
    }

    pub(super) fn write_sources(&mut self, service: u32, sources: &Sources) -> Result<(), DataplaneError> {
        self.sources.set(service, Plain(*sources), 0).map_err(|source| failed(SOURCES, "write", source))
    }

    /// Calls `visit` with every connection, and ends those for which it answers `false`.
    pub(super) fn retain(
        &mut self,
        now: Ticks,
        visit: &mut dyn FnMut(&Flow) -> bool,
    ) -> Result<(), DataplaneError> {
        self.count = 0;
        self.silent.clear();
        let any = self.translates.get(&0, 0).map_err(|source| failed(TRANSLATES, "read", source))?;
        if any == 0 {
            return Ok(());
        }
        let mut over = Vec::new();
        let map = self.connections.map().fd().as_fd();
        let (mut count, mut silent) = (0, BTreeMap::<u32, u64>::new());
        syscalls::each_element(map, BATCH, |Plain(tuple), Plain(connection): Plain<Connection>| {
            count += 1;
            if !visit(&flow(&tuple, &connection)) {
                over.push((tuple, connection));
            } else if connection.is_unanswered() && connection.record().idle(now) >= SILENCE {
                *silent.entry(connection.backend).or_default() += 1;
            }
        })
        .map_err(|source| failed(CONNECTIONS, "read", source))?;
        (self.count, self.silent) = (count, silent);
        for (tuple, connection) in over {
            self.end(&tuple, &connection)?;
        }
        Ok(())
    }

    /// Ends a connection, unless it goes on meanwhile.
    fn end(&mut self, tuple: &Tuple, connection: &Connection) -> Result<(), DataplaneError> {
        match self.connections.get(&Plain(*tuple), 0) {
            Ok(Plain(now)) if now == *connection => {}
            _ => return Ok(()),
        }
        if connection.is_unanswered() {
            *self.unanswered.entry(connection.backend).or_default() += 1;
        }
        // The port is free only once no packet takes it.
        remove(&mut self.connections, CONNECTIONS, tuple)?;
        remove(&mut self.replies, REPLIES, &connection.to.turned())?;
        self.count = self.count.saturating_sub(1);
        Ok(())
    }

    /// How many there were at the last look.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The backend's id is free for another.
    pub(super) fn forget(&mut self, backend: u32) {
        self.unanswered.remove(&backend);
        self.silent.remove(&backend);
    }

    /// Connections of a backend that ended without an answer, ever.
    pub(super) fn unanswered(&self, backend: u32) -> u64 {
        self.unanswered.get(&backend).copied().unwrap_or(0)
    }

    /// Those that it does not answer, as the last look found them.
    pub(super) fn silent(&self, backend: u32) -> u64 {
        self.silent.get(&backend).copied().unwrap_or(0)
    }
}

fn remove<V: Pod>(
    map: &mut HashMap<MapData, Plain<Tuple>, V>,
    name: &'static str,
    tuple: &Tuple,
) -> Result<(), DataplaneError> {
    match map.remove(&Plain(*tuple)) {
        Err(error) if !super::is_missing(&error) => Err(failed(name, "remove", error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn flow(tuple: &Tuple, connection: &Connection) -> Flow {
    Flow {
        client: SocketAddr::new(host_address(whole(tuple.source)), u16::from_be(tuple.source_port)),
        service: connection.service,
        hash: connection.hash,
        record: connection.record(),
    }
}

fn failed(
    map: &'static str,
    action: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> DataplaneError {
    DataplaneError::Map { map, action, source: source.into() }
}
