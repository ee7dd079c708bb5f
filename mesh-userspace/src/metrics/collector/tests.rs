use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::api::types::{FlowUse, QuicPackets, SlotPhases};
use crate::metrics::{Reconciles, Reloads};

fn snapshot() -> Snapshot {
    let service = ServiceView {
        name: "web".into(),
        slots: SlotPhases { steady: 1000, migrating: 20, settling: 1 },
        panic: true,
        recorded_flows: 7,
        max_flows: Some(9),
        ..ServiceView::default()
    };
    let backend = |address: &str, state: &str, packets| BackendView {
        service: "web".into(),
        address: address.into(),
        state: state.into(),
        weight: 100,
        packets,
        bytes: 64 * packets,
        new_flows: 2,
        next_hop: (state == "up").then(|| "eth0".into()),
        recorded_flows: 3,
        ..BackendView::default()
    };
    Snapshot {
        version: "0.1.0".into(),
        ready: true,
        services: vec![service],
        backends: vec![backend("10.0.1.1", "up", 5), backend("fd00::2", "draining", u64::MAX / 64)],
        outcomes: BTreeMap::from([("forwarded_ipip".into(), 5), ("not_a_service".into(), 12)]),
        quic: QuicPackets {
            routed: BTreeMap::from([("connection_id".into(), 9), ("initial".into(), 2)]),
            rotations: BTreeMap::from([("0".into(), 9)]),
        },
        flows: FlowUse { used: 3, capacity: 524_288 },
        discovery: vec![
            SourceView {
                source: "file /a".into(),
                state: "stale".into(),
                instances: 3,
                age_seconds: Some(61.7),
                errors: 5,
                ..SourceView::default()
            },
            SourceView { source: "file /b".into(), state: "silent".into(), ..SourceView::default() },
        ],
        problems: 6,
        reconciles: Reconciles { ok: 8, failed: 1, seconds: 0.25 },
        reloads: Reloads { ok: 4, failed: 1, last_failed: true },
        incidents: 2,
    }
}

const EXPECTED: &str = r#"# HELP meshlb_build Version of the agent
# TYPE meshlb_build info
meshlb_build_info{version="0.1.0"} 1
# HELP meshlb_ready Whether the tables are loaded and packets are balanced
# TYPE meshlb_ready gauge
meshlb_ready 1
# HELP meshlb_problems What somebody should look at: lines of `meshlb status`
# TYPE meshlb_problems gauge
meshlb_problems 6
# HELP meshlb_reconciles How often the maps were brought up to date since the agent started
# TYPE meshlb_reconciles counter
meshlb_reconciles_total{result="ok"} 8
meshlb_reconciles_total{result="failed"} 1
# HELP meshlb_reconcile_seconds Time that bringing the maps up to date has taken
# TYPE meshlb_reconcile_seconds counter
meshlb_reconcile_seconds_total 0.25
# HELP meshlb_config_last_reload_ok Whether the last reload was taken over
# TYPE meshlb_config_last_reload_ok gauge
meshlb_config_last_reload_ok 0
# HELP meshlb_config_reloads Reloads of the configuration since the agent started
# TYPE meshlb_config_reloads counter
meshlb_config_reloads_total{result="ok"} 4
meshlb_config_reloads_total{result="failed"} 1
# HELP meshlb_correlated_failures How often probes of many backends began to fail at once
# TYPE meshlb_correlated_failures counter
meshlb_correlated_failures_total 2
# HELP meshlb_packets Packets by the outcome of their journey
# TYPE meshlb_packets counter
meshlb_packets_total{outcome="forwarded_ipip"} 5
meshlb_packets_total{outcome="not_a_service"} 12
# HELP meshlb_quic_packets Packets of QUIC services by what led them to their backends
# TYPE meshlb_quic_packets counter
meshlb_quic_packets_total{routed="connection_id"} 9
meshlb_quic_packets_total{routed="initial"} 2
# HELP meshlb_quic_rotation_packets Packets of QUIC services by the codepoint of connection ids that servers have chosen
# TYPE meshlb_quic_rotation_packets counter
meshlb_quic_rotation_packets_total{rotation="0"} 9
# HELP meshlb_flow_entries Entries in use of the flow tables, both families
# TYPE meshlb_flow_entries gauge
meshlb_flow_entries 3
# HELP meshlb_flow_capacity Entries the flow tables have room for, both families
# TYPE meshlb_flow_capacity gauge
meshlb_flow_capacity 524288
# HELP meshlb_service_slots Slots of the service's table by phase
# TYPE meshlb_service_slots gauge
meshlb_service_slots{service="web",phase="steady"} 1000
meshlb_service_slots{service="web",phase="migrating"} 20
meshlb_service_slots{service="web",phase="settling"} 1
# HELP meshlb_service_panic Whether too little healthy weight is left, so that all backends are used
# TYPE meshlb_service_panic gauge
meshlb_service_panic{service="web"} 1
# HELP meshlb_service_recorded_flows Flows in the flow table that are not closing
# TYPE meshlb_service_recorded_flows gauge
meshlb_service_recorded_flows{service="web"} 7
# HELP meshlb_service_max_flows How many flows the service may have, where they are limited
# TYPE meshlb_service_max_flows gauge
meshlb_service_max_flows{service="web"} 9
# HELP meshlb_backend_up Whether the backend is healthy, has a next hop and is not draining
# TYPE meshlb_backend_up gauge
meshlb_backend_up{service="web",backend="10.0.1.1"} 1
meshlb_backend_up{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_weight Weight of the backend, the operator's if there is one
# TYPE meshlb_backend_weight gauge
meshlb_backend_weight{service="web",backend="10.0.1.1"} 100
meshlb_backend_weight{service="web",backend="fd00::2"} 100
# HELP meshlb_backend_packets Packets forwarded to the backend
# TYPE meshlb_backend_packets counter
meshlb_backend_packets_total{service="web",backend="10.0.1.1"} 5
meshlb_backend_packets_total{service="web",backend="fd00::2"} 288230376151711743
# HELP meshlb_backend_bytes Bytes forwarded to the backend
# TYPE meshlb_backend_bytes counter
meshlb_backend_bytes_total{service="web",backend="10.0.1.1"} 320
meshlb_backend_bytes_total{service="web",backend="fd00::2"} 18446744073709551552
# HELP meshlb_backend_new_flows Flows that began at the backend
# TYPE meshlb_backend_new_flows counter
meshlb_backend_new_flows_total{service="web",backend="10.0.1.1"} 2
meshlb_backend_new_flows_total{service="web",backend="fd00::2"} 2
# HELP meshlb_backend_reachable Whether the next hop to the backend is known
# TYPE meshlb_backend_reachable gauge
meshlb_backend_reachable{service="web",backend="10.0.1.1"} 1
meshlb_backend_reachable{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_held Whether the backend's probes fail and it stays up, since many fail
# TYPE meshlb_backend_held gauge
meshlb_backend_held{service="web",backend="10.0.1.1"} 0
meshlb_backend_held{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_recorded_flows Flows in the flow table that are not closing
# TYPE meshlb_backend_recorded_flows gauge
meshlb_backend_recorded_flows{service="web",backend="10.0.1.1"} 3
meshlb_backend_recorded_flows{service="web",backend="fd00::2"} 3
# HELP meshlb_discovery_up Whether the source answers
# TYPE meshlb_discovery_up gauge
meshlb_discovery_up{source="file /a"} 0
meshlb_discovery_up{source="file /b"} 0
# HELP meshlb_discovery_instances Instances that the source knows
# TYPE meshlb_discovery_instances gauge
meshlb_discovery_instances{source="file /a"} 3
meshlb_discovery_instances{source="file /b"} 0
# HELP meshlb_discovery_age_seconds Time since the source last said so or confirmed it
# TYPE meshlb_discovery_age_seconds gauge
meshlb_discovery_age_seconds{source="file /a"} 61
# HELP meshlb_discovery_errors Failures of the source since it is followed
# TYPE meshlb_discovery_errors counter
meshlb_discovery_errors_total{source="file /a"} 5
meshlb_discovery_errors_total{source="file /b"} 0
# EOF
"#;

#[test]
fn every_metric_has_its_line() {
    assert_eq!(render(&snapshot()), EXPECTED);
}

#[test]
fn names_of_an_empty_agent_are_declared_too() {
    let declared = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|l| l.starts_with("# TYPE")).map(str::to_owned).collect()
    };
    assert_eq!(declared(&render(&Snapshot::default())), declared(&render(&snapshot())));
}

#[test]
fn samples_of_counters_and_only_those_end_in_total() {
    let text = render(&snapshot());
    let counters: BTreeSet<_> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = name.strip_suffix("_total");
        assert_eq!(family.is_some_and(|f| counters.contains(f)), family.is_some(), "{line}");
    }
    assert_eq!(counters.len(), 11);
}

#[test]
fn odd_names_are_escaped() {
    let mut odd = snapshot();
    odd.services[0].name = "a\"b\\c\n".into();
    assert!(render(&odd).contains(r#"meshlb_service_panic{service="a\"b\\c\n"} 1"#));
}
