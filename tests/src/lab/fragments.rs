//! The fragment table of a lab, written from outside: records get older without waiting.

use anyhow::{Context, Result};
use aya::maps::{HashMap, Map, MapData};
use mesh_common::flow::Ticks;

use super::Lab;

/// A key and a value as words; the third of the value has the time in its lower half.
type Table = HashMap<MapData, [u64; 5], [u64; 4]>;

impl Lab {
    /// Lets time pass for the fragment table.
    pub fn age_fragments(&mut self, by: Ticks) -> Result<()> {
        let table = MapData::from_pin(self.pins.map("FRAGMENTS"))?;
        let mut table: Table = HashMap::try_from(Map::LruHashMap(table))?;
        const LOW: u64 = 0xffff_ffff;
        let records = table.iter().collect::<Result<Vec<_>, _>>()?;
        records.first().context("there is nothing to age")?;
        for (key, [hash, backend, seen_and_rest, edge]) in records {
            let (seen, rest) = (seen_and_rest & LOW, seen_and_rest & !LOW);
            let older = Ticks::try_from(seen)?.wrapping_sub(by);
            table.insert(key, [hash, backend, u64::from(older) | rest, edge], 0)?;
        }
        Ok(())
    }
}
