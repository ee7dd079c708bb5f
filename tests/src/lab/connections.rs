//! The connections of a lab, written from outside: any ends become any others.

use anyhow::Result;
use aya::maps::{HashMap, Map, MapData};
use mesh_common::connection::{Connection, Reply, Splice, Way};
use mesh_common::tuple::Tuple;

use super::Lab;

impl Lab {
    /// Has packets with this tuple go to a backend, under another.
    pub fn connection(&mut self, tuple: &Tuple, connection: &Connection) -> Result<()> {
        Ok(self.open("CONNECTIONS")?.insert(words(tuple), connection_words(connection), 0)?)
    }

    /// Knows connections in both directions.
    pub fn connect(
        &mut self,
        connections: impl IntoIterator<Item = Result<(Connection, Reply)>>,
    ) -> Result<()> {
        let (mut clients, mut backends) = (self.open("CONNECTIONS")?, self.open("REPLIES")?);
        for known in connections {
            let (connection, reply) = known?;
            clients.insert(words(&reply.to.turned()), connection_words(&connection), 0)?;
            backends.insert(words(&connection.to.turned()), reply_words(&reply), 0)?;
        }
        Ok(())
    }

    /// Has packets with this tuple go to a client, under another.
    pub fn reply(&mut self, tuple: &Tuple, reply: &Reply) -> Result<()> {
        Ok(self.open("REPLIES")?.insert(words(tuple), reply_words(reply), 0)?)
    }

    fn open<const N: usize>(&self, map: &str) -> Result<HashMap<MapData, [u64; 5], [u64; N]>> {
        let map = Map::HashMap(MapData::from_pin(self.pins.map(map))?);
        Ok(HashMap::try_from(map)?)
    }
}

fn connection_words(connection: &Connection) -> [u64; 13] {
    let Connection { to, way, hash, backend, service, seen, signs, splice } = connection;
    let ([a, b, c, d, e], [f, g, h, i]) = (words(to), way_words(way));
    let [first, second] = splice_words(splice);
    [a, b, c, d, e, f, g, h, i, *hash, pair(*backend, *service), pair(*seen, *signs), pair(first, second)]
}

fn reply_words(reply: &Reply) -> [u64; 12] {
    let Reply { to, way, backend, told, signs, splice, reserved } = reply;
    let ([a, b, c, d, e], [f, g, h, i]) = (words(to), way_words(way));
    let [first, second] = splice_words(splice);
    [a, b, c, d, e, f, g, h, i, pair(*backend, *told), pair(*signs, first), pair(second, *reserved)]
}

fn splice_words(splice: &Splice) -> [u32; 2] {
    let Splice { difference, theirs, ours, reserved } = splice;
    let [low, high] = reserved.to_ne_bytes();
    [*difference, u32::from_ne_bytes([*theirs, *ours, low, high])]
}

/// Words as they stand in memory.
fn words(tuple: &Tuple) -> [u64; 5] {
    let Tuple { source: [a, b], destination: [c, d], protocol, .. } = *tuple;
    [a, b, c, d, pair(tuple.ports(), protocol.into())]
}

fn way_words(way: &Way) -> [u64; 4] {
    let Way { macs, macs_rest, ifindex, tags: [first, second], tag_count, room, reserved } = *way;
    let counts = u32::from(tag_count) | u32::from(room) << 16;
    [macs, pair(macs_rest, ifindex), pair(first, second), pair(counts, reserved)]
}

fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}
