//! The flow table of a lab, written from outside: records get the age that a test needs, without waiting.

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{Array, Map, MapData};
use mesh_common::flow::{Ticks, ticks};
use mesh_common::table::{self, WAYS};
use mesh_userspace::dataplane::{Dataplane as _, Flow, wire_address};
use nix::time::{ClockId, clock_gettime};

use super::Lab;

/// The time by the clock that the program asks: the coarse one, which lags a few milliseconds.
pub fn now() -> Result<Ticks> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(ticks(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?))
}

impl Lab {
    /// Every record.
    pub fn flows(&mut self) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        self.retain_flows(|flow| {
            flows.push(*flow);
            true
        })?;
        Ok(flows)
    }

    /// Forgets the records for which the answer is `false`.
    pub fn retain_flows(&mut self, mut visit: impl FnMut(&Flow) -> bool) -> Result<()> {
        self.kernel.retain_flows(now()?, &mut visit);
        Ok(())
    }

    /// Lets time pass for the flow table: every record becomes older.
    pub fn age_flows(&mut self, by: Ticks) -> Result<()> {
        let flows = self.flows()?;
        flows.into_iter().try_for_each(|mut flow| {
            flow.record.seen = flow.record.seen.wrapping_sub(by);
            self.write_flow(&flow)
        })
    }

    /// Writes a record where the flow stands, else at a free place of its first bucket.
    pub fn write_flow(&self, flow: &Flow) -> Result<()> {
        let (mut buckets, mut clients) = (self.array::<[u64; 8]>("FLOWS")?, self.array("CLIENTS")?);
        let tag = table::tag(flow.hash, flow.service);
        let places = table::buckets(tag, buckets.len());
        let (place, way) = find(&buckets, &places, tag)?
            .or(find(&buckets, &places, 0)?)
            .context("there is no place for the flow")?;
        let mut bucket = buckets.get(&place, 0)?;
        *bucket.get_mut(way).context("a bucket has ways")? = tag;
        *bucket.get_mut(WAYS + way).context("a bucket has values")? = table::pack(tag, &flow.record);
        buckets.set(place, bucket, 0)?;
        let mut line: [[u8; 32]; WAYS] = clients.get(&place, 0)?;
        *line.get_mut(way).context("a line has ways")? = client(tag, flow)?;
        Ok(clients.set(place, line, 0)?)
    }

    fn array<T: Pod>(&self, map: &str) -> Result<Array<MapData, T>> {
        Ok(Array::try_from(Map::Array(MapData::from_pin(self.pins.map(map))?))?)
    }
}

/// Where a tag stands.
fn find(buckets: &Array<MapData, [u64; 8]>, places: &[u32], tag: u64) -> Result<Option<(u32, usize)>> {
    for place in places {
        let bucket = buckets.get(place, 0)?;
        if let Some(way) = bucket.iter().take(WAYS).position(|there| *there == tag) {
            return Ok(Some((*place, way)));
        }
    }
    Ok(None)
}

/// The bytes of a `table::Client`.
fn client(tag: u64, flow: &Flow) -> Result<[u8; 32]> {
    let port = flow.client.port().to_be_bytes();
    let head = [tag.to_ne_bytes().as_slice(), &flow.service.to_ne_bytes(), &port, &[0; 2]].concat();
    let bytes = [head.as_slice(), &wire_address(flow.client.ip())].concat();
    bytes.try_into().ok().context("a client has 32 bytes")
}
