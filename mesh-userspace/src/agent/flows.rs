//! Recorded flows: one by one, or counted.

use super::{command::CommandError, finding::unknown, state::Agent};
use crate::{
    api::types::{FlowCount, FlowView},
    config,
    dataplane::{Flow, host_address, lasting},
};
use clap::ValueEnum;
use ipnet::IpNet;
use mesh_common::flow::{Ticks, state};
use serde::Deserialize;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

/// Most that flows are counted by: what comes later is counted together.
const MOST_COUNTED: usize = 100_000;

/// What is written where an id says nothing any more.
const UNKNOWN: &str = "unknown";

/// What packets have shown of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowState {
    /// It has begun.
    Opening,
    /// Data goes on.
    Established,
    /// Its end has begun.
    Closing,
}

impl FlowState {
    pub(super) const fn of(number: u32) -> Self {
        match number {
            state::OPENING => Self::Opening,
            state::CLOSING => Self::Closing,
            _ => Self::Established,
        }
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}

/// Which flows are wanted: those that are all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Of the service of this name.
    pub service: Option<String>,
    /// From a client in this prefix.
    pub client: Option<IpNet>,
    /// Kept at a backend with this address.
    pub backend: Option<IpAddr>,
    /// In this state.
    pub state: Option<FlowState>,
}

/// What flows are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowKey {
    /// Their service.
    Service,
    /// Their service's backend.
    Backend,
    /// Their client's address.
    Client,
    /// Their state.
    State,
}

impl FlowKey {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Backend => "backend",
            Self::Client => "client",
            Self::State => "state",
        }
    }
}

/// The same as [`FlowFilter`], in the ids of the tables.
struct Wanted {
    service: Option<u32>,
    client: Option<IpNet>,
    backends: Option<BTreeSet<u32>>,
    state: Option<FlowState>,
}

impl Wanted {
    fn is_met_by(&self, flow: &Flow) -> bool {
        self.service.is_none_or(|id| flow.service == id)
            && self.client.is_none_or(|net| net.contains(&flow.client.ip()))
            && self.backends.as_ref().is_none_or(|ids| ids.contains(&flow.record.backend))
            && self.state.is_none_or(|state| FlowState::of(flow.record.state) == state)
    }
}

impl Agent {
    /// At most so many flows.
    pub(super) fn flow_views(
        &mut self,
        filter: &FlowFilter,
        limit: usize,
    ) -> Result<Vec<FlowView>, CommandError> {
        let wanted = self.wanted_flows(filter)?;
        let mut flows = Vec::new();
        let now = self.each_flow(|flow| {
            if flows.len() < limit && wanted.is_met_by(flow) {
                flows.push(*flow);
            }
        })?;
        let services = self.services_by_id();
        Ok(flows.iter().map(|flow| self.flow_view(flow, &services, now)).collect())
    }

    /// How many flows there are by something, most first; at most so many lines.
    pub(super) fn flow_counts(
        &mut self,
        filter: &FlowFilter,
        by: FlowKey,
        limit: usize,
    ) -> Result<Vec<FlowCount>, CommandError> {
        let wanted = self.wanted_flows(filter)?;
        let mut counts = HashMap::new();
        self.each_flow(|flow| {
            if wanted.is_met_by(flow) {
                count(&mut counts, Counted::new(flow, by), MOST_COUNTED);
            }
        })?;
        let services = self.services_by_id();
        let named = counts.into_iter().map(|(of, flows)| self.named(of, flows, &services));
        let mut lines: Vec<_> = named.collect();
        lines.sort_by(|a, b| (Reverse(a.flows), a).cmp(&(Reverse(b.flows), b)));
        lines.truncate(limit);
        Ok(lines)
    }

    fn each_flow(&mut self, visit: impl FnMut(&Flow)) -> Result<Ticks, CommandError> {
        self.reconciler.each_flow(visit).map_err(|error| CommandError::failed(error.to_string()))
    }

    fn wanted_flows(&self, filter: &FlowFilter) -> Result<Wanted, CommandError> {
        let FlowFilter { service, client, backend, state } = filter;
        let service = service.as_deref().map(|name| self.find_service(name)).transpose()?;
        // A service that is in no table has no flows; no id is 0.
        let service = service.map(|service| self.entry(service.key()).map_or(0, |entry| entry.id));
        let backends = backend.map(|address| self.backends_at(address)).transpose()?;
        Ok(Wanted { service, client: *client, backends, state: *state })
    }

    /// The ids of backends with this address, also of those that are removed and keep their flows.
    fn backends_at(&self, address: IpAddr) -> Result<BTreeSet<u32>, CommandError> {
        let entries = self.reconciler.actual().backends.iter();
        let here = entries.filter(|(_, entry)| host_address(entry.address) == address);
        let ids: BTreeSet<u32> = here.map(|(id, _)| *id).collect();
        if ids.is_empty() {
            let message = format!("there is no backend {address}");
            return Err(unknown(message, address, &self.config.services, "meshlb backends"));
        }
        Ok(ids)
    }

    fn services_by_id(&self) -> HashMap<u32, &config::Service> {
        let services = self.config.services.iter();
        services.filter_map(|service| Some((self.entry(service.key())?.id, service))).collect()
    }

    fn flow_view(&self, flow: &Flow, services: &HashMap<u32, &config::Service>, now: Ticks) -> FlowView {
        FlowView {
            service: service_name(flow.service, services),
            client: flow.client.to_string(),
            backend: self.backend_name(flow.record.backend),
            state: FlowState::of(flow.record.state).name().to_owned(),
            idle_seconds: lasting(flow.record.idle(now)).as_secs_f64(),
        }
    }

    fn backend_name(&self, id: u32) -> String {
        let backend = self.reconciler.actual().backends.get(&id);
        backend.map_or_else(|| UNKNOWN.to_owned(), |backend| host_address(backend.address).to_string())
    }

    fn named(&self, of: Counted, flows: u64, services: &HashMap<u32, &config::Service>) -> FlowCount {
        let none = FlowCount { flows, ..FlowCount::default() };
        match of {
            Counted::Service(id) => FlowCount { service: Some(service_name(id, services)), ..none },
            Counted::Backend(service, id) => FlowCount {
                service: Some(service_name(service, services)),
                backend: Some(self.backend_name(id)),
                ..none
            },
            Counted::Client(address) => FlowCount { client: Some(address.to_string()), ..none },
            Counted::State(state) => FlowCount { state: Some(state.name().to_owned()), ..none },
            Counted::Others => none,
        }
    }
}

fn service_name(id: u32, services: &HashMap<u32, &config::Service>) -> String {
    services.get(&id).map_or_else(|| UNKNOWN.to_owned(), |service| service.name.clone())
}

/// What some flows have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counted {
    Service(u32),
    Backend(u32, u32),
    Client(IpAddr),
    State(FlowState),
    /// Nothing: there were too many to tell apart.
    Others,
}

impl Counted {
    const fn new(flow: &Flow, by: FlowKey) -> Self {
        match by {
            FlowKey::Service => Self::Service(flow.service),
            FlowKey::Backend => Self::Backend(flow.service, flow.record.backend),
            FlowKey::Client => Self::Client(flow.client.ip()),
            FlowKey::State => Self::State(FlowState::of(flow.record.state)),
        }
    }
}

/// Counts one more, of at most `most` that are told apart.
fn count(counts: &mut HashMap<Counted, u64>, of: Counted, most: usize) {
    let of = if counts.len() < most || counts.contains_key(&of) { of } else { Counted::Others };
    *counts.entry(of).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_common::flow::FlowRecord;

    fn flow(client: &str, service: u32, backend: u32, number: u32) -> Flow {
        let record = FlowRecord { backend, seen: 0, state: number };
        Flow { client: client.parse().unwrap(), service, hash: 0, record }
    }

    #[test]
    fn a_flow_is_wanted_that_is_all_that_was_asked_for() {
        let flow = flow("192.0.2.7:40000", 3, 5, state::OPENING);
        let any = || Wanted { service: None, client: None, backends: None, state: None };
        let met = |wanted: Wanted| wanted.is_met_by(&flow);
        assert!(met(any()));
        assert!(met(Wanted {
            service: Some(3),
            client: Some("192.0.2.0/24".parse().unwrap()),
            backends: Some(BTreeSet::from([4, 5])),
            state: Some(FlowState::Opening),
        }));
        assert!(!met(Wanted { service: Some(0), ..any() }));
        assert!(!met(Wanted { client: Some("192.0.2.8/32".parse().unwrap()), ..any() }));
        assert!(!met(Wanted { client: Some("::/0".parse().unwrap()), ..any() }));
        assert!(!met(Wanted { backends: Some(BTreeSet::from([4])), ..any() }));
        assert!(!met(Wanted { state: Some(FlowState::Closing), ..any() }));
    }

    #[test]
    fn what_is_too_much_to_tell_apart_is_counted_together() {
        let mut counts = HashMap::new();
        for client in
            ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1", "192.0.2.1:3"]
        {
            count(&mut counts, Counted::new(&flow(client, 1, 1, 2), FlowKey::Client), 2);
        }
        let client = |text: &str| Counted::Client(text.parse().unwrap());
        let expected =
            HashMap::from([(client("192.0.2.1"), 3), (client("192.0.2.2"), 1), (Counted::Others, 2)]);
        assert_eq!(counts, expected);
    }
}
