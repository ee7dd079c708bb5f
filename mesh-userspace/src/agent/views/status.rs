//! The agent at a glance, and all that the metrics say.

use super::VERSION;
use crate::{
    agent::{
        clock,
        state::{Agent, ifindex},
    },
    api::types::{BackendDown, FlowUse, InterfaceView, ProgramView, QuicPackets, ServiceHealth, Status},
    config,
    dataplane::{
        Dataplane as _,
        kernel::{LoadedProgram, PROGRAM, Tracer},
    },
    desired::Role,
    durations::Outcomes,
    health,
    metrics::{Program, Snapshot},
    nexthop::Resolution,
};
use mesh_common::quic::Routed;
use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};
use tracing::warn;

/// Backends that are down and listed.
const MOST_DOWN: usize = 20;

impl Agent {
    pub(in crate::agent) fn status(&mut self) -> Status {
        let program = |program: &LoadedProgram| ProgramView {
            name: program.name.into(),
            verified_instructions: program.verified_instructions.unwrap_or(0),
            load_time_ms: program.took.as_secs_f64() * 1000.0,
        };
        Status {
            version: VERSION.to_owned(),
            ready: self.is_ready(),
            uptime_seconds: clock::now().saturating_duration_since(self.started).as_secs_f64(),
            interfaces: self.interfaces(),
            services: self
                .config
                .services
                .iter()
                .filter_map(|service| self.service_health(service))
                .collect(),
            problems: self.problems(),
            programs: self.reconciler.dataplane().loaded().programs.iter().map(program).collect(),
            flows: self.flow_use(),
            connections: self.connection_use(),
            outcomes: self.outcomes(),
            quic: self.quic_packets(),
            watched: self.is_watched(),
            discovery: self.source_views(),
            backends_down: self.backends_down(),
            slots_changing: self.reconciler.slots_changing(),
        }
    }

    /// Those that went down last, first.
    fn backends_down(&self) -> Vec<BackendDown> {
        let verdicts = self.inputs.verdicts();
        let now = SystemTime::now();
        let mut down = Vec::new();
        for (key, service) in &self.desired.services {
            for (address, backend) in &service.backends {
                let verdict = verdicts.get(&health::Key { service: *key, address: *address });
                // In a panic those that are down are used, too; why they are is what somebody wants to know then.
                let is_down = verdict.is_some_and(|verdict| verdict.state == health::State::Down);
                if backend.role != Role::Down && !(service.panic && is_down) {
                    continue;
                }
                let since = verdict.and_then(|verdict| now.duration_since(verdict.since).ok());
                down.push(BackendDown {
                    service: service.name.clone(),
                    address: address.to_string(),
                    since_seconds: since.unwrap_or_default().as_secs_f64(),
                    reason: verdict.and_then(|verdict| verdict.last_error.clone()),
                });
            }
        }
        down.sort_by(|one, other| one.since_seconds.total_cmp(&other.since_seconds));
        down.truncate(MOST_DOWN);
        down
    }

    fn interfaces(&self) -> Vec<InterfaceView> {
        let view = |attached: &crate::dataplane::kernel::Attached| InterfaceView {
            name: attached.interface.clone(),
            ifindex: attached.ifindex,
            mode: attached.mode.to_string(),
            reason: attached.reason.clone(),
        };
        self.attached.iter().map(view).collect()
    }

    pub(super) fn service_health(&self, service: &config::Service) -> Option<ServiceHealth> {
        let desired = self.desired.services.get(&service.key())?;
        let mut health =
            ServiceHealth { service: service.name.clone(), panic: desired.panic, ..ServiceHealth::default() };
        for backend in desired.backends.values() {
            match (backend.role, backend.next_hop) {
                (Role::Active, Some(_)) => health.up += 1,
                (Role::Draining | Role::Standby | Role::Ejected, Some(_)) => health.draining += 1,
                (Role::Active | Role::Draining | Role::Standby | Role::Ejected, None)
                | (Role::Down | Role::Unknown, _) => health.down += 1,
            }
        }
        Some(health)
    }

    /// What somebody should look at.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.reconciler.problems().to_vec();
        let refused = |reason| format!("the configuration is not what is in the file: {reason}");
        problems.extend(self.refused.as_ref().map(refused));
        problems.extend(self.forgetful.clone());
        problems.extend(self.memoir.unwritten.clone());
        problems.extend(self.shortages.problems());
        problems.extend(self.flood_problems());
        problems.extend(self.flow_log_problems());
        problems.extend(self.telemetry_problem());
        problems.extend(self.local_problem());
        problems.extend(self.incident_problems());
        for attached in
            self.attached.iter().filter(|attached| ifindex(&attached.interface) != Some(attached.ifindex))
        {
            problems.push(format!(
                "interface {} is gone; it is attached to when it comes back",
                attached.interface
            ));
        }
        for service in self.desired.services.values() {
            if service.panic {
                problems.push(format!("service {:?}: too few backends are healthy, using all", service.name));
            } else if service.shares().is_empty() {
                problems.push(format!("service {:?}: no backend takes new flows", service.name));
            }
        }
        for (address, resolution) in self.inputs.next_hops().iter() {
            if let Resolution::Unresolved { reason, is_local, .. } = resolution
                && !(*is_local && self.reaches_local(*address))
            {
                problems.push(format!("backend {address} cannot be reached: {reason}"));
            }
        }
        problems.extend(self.config.services.iter().filter_map(|service| self.silent_loads(service)));
        problems.extend(self.fleet_problems());
        problems.extend(self.source_problems());
        problems.extend(self.config.services.iter().filter_map(|service| self.resized(service)));
        problems.extend(self.config.services.iter().flat_map(|service| self.behind_routers(service)));
        problems
    }

    /// Backends that this way of forwarding does not reach.
    fn behind_routers(&self, service: &config::Service) -> Vec<String> {
        let next_hops = self.inputs.next_hops();
        let missed = |address: &IpAddr| match next_hops.get(address) {
            Some(Resolution::Resolved(hop)) => !service.forward.reaches(hop),
            Some(Resolution::Unresolved { .. }) | None => false,
        };
        let backends = service.backends.iter().map(|backend| backend.address).filter(missed);
        let name = &service.name;
        backends
            .map(|address| {
                format!(
                    "service {name:?}: backend {address} is behind a router, which direct return cannot pass"
                )
            })
            .collect()
    }

    /// Backends whose load a service's shares should follow, and that do not say it.
    fn silent_loads(&self, service: &config::Service) -> Option<String> {
        let verdicts = self.inputs.verdicts();
        let key = |address| health::Key { service: service.key(), address };
        let error = |backend: &config::Backend| {
            let error = verdicts.get(&key(backend.address))?.load_error.as_ref()?;
            Some((backend.address, error.to_string()))
        };
        let silent: Vec<_> = service.backends.iter().filter_map(error).collect();
        let (address, reason) = silent.first()?;
        let (name, count, all) = (&service.name, silent.len(), service.backends.len());
        Some(format!(
            "service {name:?}: {count} of {all} backends do not say their load, such as {address}: {reason}"
        ))
    }

    /// A table keeps the size that it was created with.
    fn resized(&self, service: &config::Service) -> Option<String> {
        let entry = self.entry(service.key())?;
        let wanted = service.wanted_size().filter(|wanted| *wanted != entry.size)?;
        Some(format!(
            "service {:?} keeps its table of {} slots; for {wanted}, remove it, reload, and add it again",
            service.name, entry.size
        ))
    }

    fn flow_use(&self) -> FlowUse {
        FlowUse { used: self.reconciler.records(), capacity: u64::from(self.config.limits.flows) }
    }

    fn connection_use(&mut self) -> FlowUse {
        let capacity = u64::from(self.config.limits.connections);
        FlowUse { used: self.reconciler.dataplane().connections(), capacity }
    }

    fn outcomes(&mut self) -> BTreeMap<String, u64> {
        match self.reconciler.dataplane().outcomes() {
            Ok(outcomes) => {
                outcomes.into_iter().map(|(name, count)| (name.label().to_owned(), count)).collect()
            }
            Err(error) => {
                warn!(%error, "could not read the outcomes");
                BTreeMap::new()
            }
        }
    }

    fn quic_packets(&mut self) -> QuicPackets {
        self.reconciler.dataplane().routed().map_or_else(
            |error| {
                warn!(%error, "could not read the counters of QUIC packets");
                QuicPackets::default()
            },
            |counters| quic_packets(&counters),
        )
    }

    fn probe_durations(&self) -> BTreeMap<String, Outcomes> {
        let mut durations = self.inputs.probe_durations();
        let services = self.config.services.iter();
        services.filter_map(|it| Some((it.name.clone(), durations.remove(&it.key())?))).collect()
    }

    /// What the kernel says of the programs. It counts runs of what is attached only, and with it what that calls.
    fn programs(&mut self) -> Vec<Program> {
        let kernel = self.reconciler.dataplane();
        let runs = kernel.runs();
        let program = |program: &LoadedProgram| Program {
            name: program.name.to_owned(),
            verified_instructions: program.verified_instructions,
            runs: runs.filter(|_| program.name == PROGRAM),
        };
        let mut programs: Vec<Program> = kernel.loaded().programs.iter().map(program).collect();
        let other = |name: &str, tracer: &Tracer| Program {
            name: name.to_owned(),
            runs: tracer.runs(),
            ..Program::default()
        };
        programs.extend(self.watchers.tracer().map(|tracer| other("tracing", tracer)));
        programs.extend(self.logger().map(|tracer| other("logging", tracer)));
        programs
    }

    pub(in crate::agent) fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            version: VERSION.to_owned(),
            ready: self.is_ready(),
            services: self.service_views(),
            backends: self.backend_views(),
            outcomes: self.outcomes(),
            quic: self.quic_packets(),
            flows: self.flow_use(),
            connections: self.connection_use(),
            discovery: self.source_views(),
            problems: u64::try_from(self.problems().len()).unwrap_or(u64::MAX),
            reconciles: self.reconciles.clone(),
            probes: self.probe_durations(),
            programs: self.programs(),
            flow_log: self.flow_log_tally(),
            otlp: self.telemetry_tally(),
            config_hash: self.fingerprint.clone(),
            reloads: self.reloads,
            incidents: self.incidents,
        }
    }
}

/// Sums by way; and by codepoint, where it is a server that has written it.
fn quic_packets(counters: &BTreeMap<(Routed, u32), u64>) -> QuicPackets {
    let mut packets = QuicPackets::default();
    for ((way, rotation), count) in counters {
        *packets.routed.entry(way.label().to_owned()).or_default() += count;
        if way.has_rotation() {
            *packets.rotations.entry(rotation.to_string()).or_default() += count;
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_servers_chose_count_for_a_rotation() {
        let mut counters: BTreeMap<_, _> = Routed::counters().map(|counter| (counter, 0)).collect();
        counters.insert((Routed::ConnectionId, 2), 5);
        counters.insert((Routed::UnknownId, 2), 1);
        counters.insert((Routed::ConnectionId, 0), 7);
        counters.insert((Routed::Initial, 0), 100);
        counters.insert((Routed::Malformed, 0), 1000);
        let QuicPackets { routed, rotations } = quic_packets(&counters);
        assert_eq!((routed["connection_id"], routed["initial"], routed["unknown_id"]), (12, 100, 1));
        assert_eq!((rotations["0"], rotations["1"], rotations["2"]), (7, 0, 6));
        assert_eq!((routed.len(), rotations.len()), (6, 8));
    }
}
