//! The flow table of a lab, written from outside: records get the age that a test needs, without waiting.

use anyhow::{Context, Result};
use mesh_common::flow::Ticks;
use mesh_userspace::dataplane::{Dataplane as _, Flow};

use super::Lab;

impl Lab {
    /// The time by which the program stamps records.
    pub fn now(&self) -> Result<Ticks> {
        Ok(self.kernel.now()?)
    }

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
        let now = self.now()?;
        self.kernel.retain_flows(now, &mut visit)?;
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
    pub fn write_flow(&mut self, flow: &Flow) -> Result<()> {
        self.kernel.record_flow(flow).context("there is no place for the flow")
    }
}
