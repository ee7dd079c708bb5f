//! Recorded flows.

use crate::{
    agent::state::Agent,
    api::types::FlowView,
    config,
    dataplane::{Flow, host_address},
};
use mesh_common::flow::{Ticks, state};
use std::{collections::HashMap, time::Duration};
use tracing::error;

impl Agent {
    pub(in crate::agent) fn flow_views(&mut self, limit: usize) -> Vec<FlowView> {
        let (flows, now) = match self.reconciler.flows(limit) {
            Ok(found) => found,
            Err(error) => {
                error!(%error, "could not look through the flow table");
                return Vec::new();
            }
        };
        let keys =
            self.config.services.iter().filter_map(|service| Some((self.entry(service.key())?.id, service)));
        let services: HashMap<u32, &config::Service> = keys.collect();
        flows.iter().map(|flow| self.flow_view(flow, &services, now)).collect()
    }

    fn flow_view(&self, flow: &Flow, services: &HashMap<u32, &config::Service>, now: Ticks) -> FlowView {
        let backend = self.reconciler.actual().backends.get(&flow.record.backend);
        let idle = Duration::from_nanos(u64::from(flow.record.idle(now)) << 30);
        let unknown = || "unknown".to_owned();
        FlowView {
            service: services.get(&flow.service).map_or_else(unknown, |service| service.name.clone()),
            client: flow.client.to_string(),
            backend: backend.map_or_else(unknown, |backend| host_address(backend.address).to_string()),
            state: flow_state(flow.record.state).to_owned(),
            idle_seconds: idle.as_secs_f64(),
        }
    }
}

const fn flow_state(number: u32) -> &'static str {
    match number {
        state::OPENING => "opening",
        state::CLOSING => "closing",
        _ => "established",
    }
}
