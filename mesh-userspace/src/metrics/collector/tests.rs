use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::api::types::{FlowUse, GroupView, HealthView, QuicPackets, SlotPhases};
use crate::dataplane::kernel::Runs;
use crate::metrics::Reloads;

/// By milliseconds.
fn outcomes(ok: &[u64], failed: &[u64]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    ok.iter().for_each(|took| outcomes.observe(true, Duration::from_millis(*took)));
    failed.iter().for_each(|took| outcomes.observe(false, Duration::from_millis(*took)));
    outcomes
}

fn snapshot() -> Snapshot {
    let service = ServiceView {
        name: "web".into(),
        slots: SlotPhases { steady: 1000, migrating: 20, settling: 1 },
        panic: true,
        recorded_flows: 7,
        max_flows: Some(9),
        groups: vec![GroupView {
            name: "canary".into(),
            share: 20,
            configured_share: 5,
            ..GroupView::default()
        }],
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
        health: Some(HealthView {
            state: if state == "up" { "up" } else { "unknown" }.into(),
            ..HealthView::default()
        }),
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
        connections: FlowUse { used: 5, capacity: 131_072 },
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
        reconciles: outcomes(&[1, 1, 300], &[]),
        probes: BTreeMap::from([("web".into(), outcomes(&[2], &[12_000]))]),
        programs: vec![
            Program {
                name: "meshlb".into(),
                verified_instructions: Some(9000),
                runs: Some(Runs { count: 5, took: Duration::from_micros(1) }),
            },
            Program { name: "whole".into(), ..Program::default() },
        ],
        flow_log: Tally { written: 12, missed: 3, unwritten: 4 },
        otlp: otlp::Tally { sent: 21, dropped: 5 },
        config_hash: "0123456789abcdef".into(),
        reloads: Reloads { ok: 4, failed: 1, last_failed: true, last_time: 1_700_000_000 },
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
# HELP meshlb_reconcile_duration_seconds How long bringing the maps up to date took
# TYPE meshlb_reconcile_duration_seconds histogram
meshlb_reconcile_duration_seconds_sum{result="ok"} 0.302
meshlb_reconcile_duration_seconds_count{result="ok"} 3
meshlb_reconcile_duration_seconds_bucket{le="0.0001",result="ok"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.0005",result="ok"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.001",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.0025",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.005",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.01",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.025",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.05",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.1",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.25",result="ok"} 2
meshlb_reconcile_duration_seconds_bucket{le="0.5",result="ok"} 3
meshlb_reconcile_duration_seconds_bucket{le="1.0",result="ok"} 3
meshlb_reconcile_duration_seconds_bucket{le="2.5",result="ok"} 3
meshlb_reconcile_duration_seconds_bucket{le="5.0",result="ok"} 3
meshlb_reconcile_duration_seconds_bucket{le="10.0",result="ok"} 3
meshlb_reconcile_duration_seconds_bucket{le="+Inf",result="ok"} 3
meshlb_reconcile_duration_seconds_sum{result="failed"} 0.0
meshlb_reconcile_duration_seconds_count{result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.0001",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.0005",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.001",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.0025",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.005",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.01",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.025",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.05",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.1",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.25",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="0.5",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="1.0",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="2.5",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="5.0",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="10.0",result="failed"} 0
meshlb_reconcile_duration_seconds_bucket{le="+Inf",result="failed"} 0
# HELP meshlb_correlated_failures How often probes of many backends began to fail at once
# TYPE meshlb_correlated_failures counter
meshlb_correlated_failures_total 2
# HELP meshlb_config Hash of the configuration in force, in which secrets have no part
# TYPE meshlb_config info
meshlb_config_info{hash="0123456789abcdef"} 1
# HELP meshlb_config_last_reload_ok Whether the last reload was taken over
# TYPE meshlb_config_last_reload_ok gauge
meshlb_config_last_reload_ok 0
# HELP meshlb_config_reloads Reloads of the configuration since the agent started
# TYPE meshlb_config_reloads counter
meshlb_config_reloads_total{result="ok"} 4
meshlb_config_reloads_total{result="failed"} 1
# HELP meshlb_config_last_reload_timestamp_seconds When the configuration was last read, at the start or by a reload, whatever came of it
# TYPE meshlb_config_last_reload_timestamp_seconds gauge
meshlb_config_last_reload_timestamp_seconds 1700000000
# HELP meshlb_program_verified_instructions Instructions that the verifier walked through
# TYPE meshlb_program_verified_instructions gauge
meshlb_program_verified_instructions{program="meshlb"} 9000
# HELP meshlb_program_runs How often the kernel ran the program, while it counts that
# TYPE meshlb_program_runs counter
meshlb_program_runs_total{program="meshlb"} 5
# HELP meshlb_program_run_seconds Time that the program ran, with what it calls, while the kernel counts that
# TYPE meshlb_program_run_seconds counter
meshlb_program_run_seconds_total{program="meshlb"} 0.000001
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
# HELP meshlb_connections Connections whose packets are translated
# TYPE meshlb_connections gauge
meshlb_connections 5
# HELP meshlb_connection_capacity Connections whose packets are translated that there is room for
# TYPE meshlb_connection_capacity gauge
meshlb_connection_capacity 131072
# HELP meshlb_flow_log_records Records of the flow log that were written
# TYPE meshlb_flow_log_records counter
meshlb_flow_log_records_total 12
# HELP meshlb_flow_log_lost Segments that the kernel had no room for, and records that were not written
# TYPE meshlb_flow_log_lost counter
meshlb_flow_log_lost_total{by="kernel"} 3
meshlb_flow_log_lost_total{by="write"} 4
# HELP meshlb_otlp_sent Spans and log records that the collector took
# TYPE meshlb_otlp_sent counter
meshlb_otlp_sent_total 21
# HELP meshlb_otlp_dropped Spans and log records that the collector did not get
# TYPE meshlb_otlp_dropped counter
meshlb_otlp_dropped_total 5
# HELP meshlb_service_slots Slots of the service's table by phase
# TYPE meshlb_service_slots gauge
meshlb_service_slots{service="web",phase="steady"} 1000
meshlb_service_slots{service="web",phase="migrating"} 20
meshlb_service_slots{service="web",phase="settling"} 1
# HELP meshlb_service_panic Whether too little healthy weight is left, so that all backends are used
# TYPE meshlb_service_panic gauge
meshlb_service_panic{service="web"} 1
# HELP meshlb_service_flooded Whether more flows of the service begin than are remembered
# TYPE meshlb_service_flooded gauge
meshlb_service_flooded{service="web"} 0
# HELP meshlb_group_share Share of the group in the service's split, the operator's if there is one
# TYPE meshlb_group_share gauge
meshlb_group_share{service="web",group="canary"} 20
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
# HELP meshlb_backend_replies Translated answers of the backend
# TYPE meshlb_backend_replies counter
meshlb_backend_replies_total{service="web",backend="10.0.1.1"} 0
meshlb_backend_replies_total{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_reply_bytes Bytes of translated answers of the backend
# TYPE meshlb_backend_reply_bytes counter
meshlb_backend_reply_bytes_total{service="web",backend="10.0.1.1"} 0
meshlb_backend_reply_bytes_total{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_refused Translated connections that the backend refused
# TYPE meshlb_backend_refused counter
meshlb_backend_refused_total{service="web",backend="10.0.1.1"} 0
meshlb_backend_refused_total{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_unanswered Translated connections that the backend did not answer
# TYPE meshlb_backend_unanswered counter
meshlb_backend_unanswered_total{service="web",backend="10.0.1.1"} 0
meshlb_backend_unanswered_total{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_reachable Whether the next hop to the backend is known
# TYPE meshlb_backend_reachable gauge
meshlb_backend_reachable{service="web",backend="10.0.1.1"} 1
meshlb_backend_reachable{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_healthy Whether the backend's probes say that it is up
# TYPE meshlb_backend_healthy gauge
meshlb_backend_healthy{service="web",backend="10.0.1.1"} 1
# HELP meshlb_backend_held Whether the backend's probes fail and it stays up, since many fail
# TYPE meshlb_backend_held gauge
meshlb_backend_held{service="web",backend="10.0.1.1"} 0
meshlb_backend_held{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_ejected Whether the backend gets no new flows, since it failed clients
# TYPE meshlb_backend_ejected gauge
meshlb_backend_ejected{service="web",backend="10.0.1.1"} 0
meshlb_backend_ejected{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_ejections How often the backend was ejected
# TYPE meshlb_backend_ejections counter
meshlb_backend_ejections_total{service="web",backend="10.0.1.1"} 0
meshlb_backend_ejections_total{service="web",backend="fd00::2"} 0
# HELP meshlb_backend_recorded_flows Flows in the flow table that are not closing
# TYPE meshlb_backend_recorded_flows gauge
meshlb_backend_recorded_flows{service="web",backend="10.0.1.1"} 3
meshlb_backend_recorded_flows{service="web",backend="fd00::2"} 3
# HELP meshlb_probe_duration_seconds How long probes of the service's backends took
# TYPE meshlb_probe_duration_seconds histogram
meshlb_probe_duration_seconds_sum{service="web",result="ok"} 0.002
meshlb_probe_duration_seconds_count{service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.0001",service="web",result="ok"} 0
meshlb_probe_duration_seconds_bucket{le="0.0005",service="web",result="ok"} 0
meshlb_probe_duration_seconds_bucket{le="0.001",service="web",result="ok"} 0
meshlb_probe_duration_seconds_bucket{le="0.0025",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.005",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.01",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.025",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.05",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.1",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.25",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="0.5",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="1.0",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="2.5",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="5.0",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="10.0",service="web",result="ok"} 1
meshlb_probe_duration_seconds_bucket{le="+Inf",service="web",result="ok"} 1
meshlb_probe_duration_seconds_sum{service="web",result="failed"} 12.0
meshlb_probe_duration_seconds_count{service="web",result="failed"} 1
meshlb_probe_duration_seconds_bucket{le="0.0001",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.0005",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.001",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.0025",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.005",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.01",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.025",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.05",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.1",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.25",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="0.5",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="1.0",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="2.5",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="5.0",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="10.0",service="web",result="failed"} 0
meshlb_probe_duration_seconds_bucket{le="+Inf",service="web",result="failed"} 1
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
    assert_eq!(counters.len(), 20);
}

#[test]
fn odd_names_are_escaped() {
    let mut odd = snapshot();
    odd.services[0].name = "a\"b\\c\n".into();
    assert!(render(&odd).contains(r#"meshlb_service_panic{service="a\"b\\c\n"} 1"#));
}
