//! The flow table as the agent looks through it: memory that the kernel's CPUs write at the same time.

use super::{DataplaneError, Flow, filter::Filter, mapped::Mapped};
use crate::dataplane::{host_address, wire_address};
use mesh_common::{
    flow::Ticks,
    table::{self, Bucket, Client, Clients, Found, WAYS},
};
use std::net::SocketAddr;

/// Buckets for so many flows: at sixty percent nearly every flow finds a place.
pub(super) fn buckets(flows: u32) -> u32 {
    let places = u64::from(flows) * 10 / 6;
    u32::try_from(places.div_ceil(7)).unwrap_or(u32::MAX).max(1)
}

pub(super) struct FlowTable {
    flows: Mapped<Bucket>,
    clients: Mapped<Clients>,
    filter: Filter,
}

impl FlowTable {
    pub(super) const fn new(flows: Mapped<Bucket>, clients: Mapped<Clients>, filter: Filter) -> Self {
        Self { flows, clients, filter }
    }

    /// Goes on with renewing the filter, if that is worth its while with so many records.
    pub(super) fn renew_filter(&mut self, count: u64) -> Result<(), DataplaneError> {
        self.filter.renew(count, self.flows.iter().flat_map(records))
    }

    pub(super) fn retain(&mut self, now: Ticks, visit: &mut dyn FnMut(&Flow) -> bool) {
        for index in 0..self.flows.len() {
            let Bucket([tags, records @ ..]) = self.flows.read(index);
            if tags >> 8 == 0 {
                continue;
            }
            let clients = self.clients.read(index);
            let [_, tags @ ..] = tags.to_le_bytes();
            for (way, ((tag, record), client)) in tags.into_iter().zip(records).zip(clients).enumerate() {
                // A line that is being written is looked at the next time.
                if let Some(flow) = flow(tag, record, &client, now)
                    && !visit(&flow)
                {
                    self.forget(index, way + 1, tag, record);
                }
            }
        }
    }

    /// Writes a flow's record where it stands in its first bucket, else at a free place there; `None` if there is none.
    pub(super) fn put(&self, key: u64, flow: &Flow) -> Option<()> {
        let [index, _] = table::buckets(key, u32::try_from(self.flows.len()).ok()?);
        let index = usize::try_from(index).ok()?;
        let Bucket(words) = self.flows.read(index);
        let [tags, ..] = words;
        let mut bytes = tags.to_le_bytes();
        let stands = |at: &usize| {
            bytes.get(*at) == Some(&table::tag(key))
                && words.get(*at).is_some_and(|word| table::unpack(key, *word, 0).is_some())
        };
        let at = (1..=WAYS).find(stands).or_else(|| Found::tags(tags, 0).first())?;
        let mut clients = self.clients.read(index);
        *clients.get_mut(at - 1)? = client(key, flow);
        let index = u32::try_from(index).ok()?;
        self.clients.write(index, &clients, 0).ok()?;
        *bytes.get_mut(at)? = table::tag(key);
        let mut bucket = Bucket(words);
        *bucket.0.get_mut(at)? = table::pack(key, &flow.record);
        let [tags, ..] = &mut bucket.0;
        *tags = u64::from_le_bytes(bytes);
        self.filter.note(key);
        // The word of tags comes last.
        self.flows.write(index, &bucket, 0).ok()
    }

    /// Frees a place, unless its bucket changes meanwhile: then it is freed the next time.
    fn forget(&self, index: usize, at: usize, tag: u8, record: u64) {
        let Bucket(words) = self.flows.read(index);
        let [tags, ..] = words;
        let mut bytes = tags.to_le_bytes();
        if let (Some(byte), Some(word)) = (bytes.get_mut(at), words.get(at))
            && (*byte, *word) == (tag, record)
        {
            *byte = 0;
            self.flows.replace_word(index, 0, tags, u64::from_le_bytes(bytes));
        }
    }
}

/// The records of a bucket, as they stand there: who is named beside them does not matter.
fn records(Bucket([tags, records @ ..]): Bucket) -> impl Iterator<Item = u64> {
    let [_, tags @ ..] = tags.to_le_bytes();
    tags.into_iter().zip(records).filter(|(tag, _)| *tag != 0).map(|(_, record)| record)
}

fn client(key: u64, flow: &Flow) -> Client {
    Client {
        key,
        service: flow.service,
        port: flow.client.port().to_be_bytes(),
        reserved: [0; 2],
        address: wire_address(flow.client.ip()),
    }
}

fn flow(tag: u8, record: u64, client: &Client, now: Ticks) -> Option<Flow> {
    let record =
        table::unpack(client.key, record, now).filter(|_| tag != 0 && tag == table::tag(client.key))?;
    let port = u16::from_be_bytes(client.port);
    Some(Flow {
        client: SocketAddr::new(host_address(client.address), port),
        service: client.service,
        hash: table::hash(client.key, client.service),
        record,
    })
}
