//! The dataplane's double: the same value and ops, without a kernel.

use super::{Actual, Dataplane, DataplaneError, Flow, Load, Op};
use crate::guard::Image;
use mesh_common::{
    abi::BackendCounters, connection::Sources, flood::Flood, flow::Ticks, outcome::Outcome, quic::Routed,
};
use std::collections::BTreeMap;

/// Maps in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// What the maps hold.
    pub actual: Actual,
    /// The flow table.
    pub flows: Vec<Flow>,
    /// Flows as the kernel counts them.
    pub loads: BTreeMap<Load, u64>,
    /// The time.
    pub now: Ticks,
    /// The halves of the guards' policies.
    pub policies: BTreeMap<u32, Image>,
    /// Where translated packets come from, by services.
    pub sources: BTreeMap<u32, Sources>,
    /// How many new flows are a flood, by services.
    pub flood_limits: BTreeMap<u32, u32>,
    /// Every change so far.
    pub applied: Vec<Op>,
}

impl Memory {
    /// Empty maps of a size.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self { actual: Actual::empty(slots), ..Self::default() }
    }
}

impl Dataplane for Memory {
    fn read(&self) -> Result<Actual, DataplaneError> {
        Ok(self.actual.clone())
    }

    fn apply(&mut self, op: &Op) -> Result<(), DataplaneError> {
        self.actual.apply(op);
        self.applied.push(*op);
        Ok(())
    }

    fn write_policies(&mut self, half: u32, image: &Image) -> Result<(), DataplaneError> {
        self.policies.insert(half, image.clone());
        Ok(())
    }

    fn write_sources(&mut self, service: u32, sources: &Sources) -> Result<(), DataplaneError> {
        self.sources.insert(service, *sources);
        Ok(())
    }

    fn write_flood_limit(&mut self, service: u32, limit: u32) -> Result<(), DataplaneError> {
        self.flood_limits.insert(service, limit);
        Ok(())
    }

    fn flood(&self, service: u32) -> Flood {
        let limit = self.flood_limits.get(&service).copied().unwrap_or(0);
        Flood { limit, ..Flood::default() }
    }

    fn counters(&self, _: u32) -> Result<BackendCounters, DataplaneError> {
        Ok(BackendCounters::default())
    }

    fn outcomes(&self) -> Result<BTreeMap<Outcome, u64>, DataplaneError> {
        Ok(BTreeMap::new())
    }

    fn routed(&self) -> Result<BTreeMap<(Routed, u32), u64>, DataplaneError> {
        Ok(BTreeMap::new())
    }

    fn load(&self, of: Load) -> u64 {
        self.loads.get(&of).copied().unwrap_or(0)
    }

    fn connections(&self) -> u64 {
        0
    }

    fn unanswered(&self, _: u32) -> u64 {
        0
    }

    fn silent(&self, _: u32) -> u64 {
        0
    }

    fn add_load(&mut self, of: Load, by: u64) -> Result<(), DataplaneError> {
        let load = self.loads.entry(of).or_default();
        *load = load.wrapping_add(by);
        Ok(())
    }

    fn retain_flows(&mut self, _: Ticks, visit: &mut dyn FnMut(&Flow) -> bool) -> Result<(), DataplaneError> {
        self.flows.retain(|flow| visit(flow));
        Ok(())
    }

    fn renew_filter(&mut self, _: u64) -> Result<(), DataplaneError> {
        Ok(())
    }

    fn now(&self) -> Result<Ticks, DataplaneError> {
        Ok(self.now)
    }

    fn seed(&self) -> u64 {
        0
    }
}
