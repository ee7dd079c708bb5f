//! The flow table as the agent looks through it: memory that the kernel's CPUs write at the same time.

use super::{Flow, mapped::Mapped};
use crate::dataplane::host_address;
use mesh_common::{
    flow::Ticks,
    table::{self, Bucket, Client, Clients},
};
use std::net::SocketAddr;

/// Buckets for so many flows: at sixty percent nearly every flow finds a place.
pub(super) fn buckets(flows: u32) -> u32 {
    let places = u64::from(flows) * 10 / 6;
    u32::try_from(places.div_ceil(4)).unwrap_or(u32::MAX).max(1)
}

pub(super) struct FlowTable {
    flows: Mapped<Bucket>,
    clients: Mapped<Clients>,
}

impl FlowTable {
    pub(super) const fn new(flows: Mapped<Bucket>, clients: Mapped<Clients>) -> Self {
        Self { flows, clients }
    }

    pub(super) fn retain(&mut self, now: Ticks, visit: &mut dyn FnMut(&Flow) -> bool) {
        for index in 0..self.flows.len() {
            let bucket = self.flows.read(index);
            if bucket.tags == [0; 4] {
                continue;
            }
            let clients = self.clients.read(index);
            for (way, ((tag, value), client)) in
                bucket.tags.iter().zip(bucket.values).zip(clients).enumerate()
            {
                // A line that is being written is looked at the next time.
                if let Some(flow) = flow(*tag, value, &client, now)
                    && !visit(&flow)
                {
                    // Unless another flow took the place meanwhile.
                    self.flows.replace_word(index, way, *tag, 0);
                }
            }
        }
    }
}

fn flow(tag: u64, value: u64, client: &Client, now: Ticks) -> Option<Flow> {
    let record = table::unpack(tag, value, now).filter(|_| tag != 0 && client.tag == tag)?;
    let port = u16::from_be_bytes(client.port);
    Some(Flow {
        client: SocketAddr::new(host_address(client.address), port),
        service: client.service,
        hash: table::hash(tag, client.service),
        record,
    })
}
