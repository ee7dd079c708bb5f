//! From a snapshot to text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::{Program, Snapshot};
use crate::api::types::{BackendView, ServiceView, SourceView};
use crate::durations::{Durations, Outcomes};
use crate::flow_log::Tally;
use crate::otlp;

/// All metrics of `snapshot`, as OpenMetrics text.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    encode(All(Arc::new(snapshot.clone())))
}

/// What a collector has to say, as OpenMetrics text.
pub(crate) fn encode(collector: impl Collector) -> String {
    let mut registry = Registry::with_prefix("meshlb");
    registry.register_collector(Box::new(collector));
    let mut text = String::new();
    // Writing to a string does not fail; were it to, the missing end marker makes the scraper discard the rest.
    let _ = text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct All(Arc<Snapshot>);

impl Collector for All {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        agent(&self.0, &mut to)?;
        config(&self.0, &mut to)?;
        programs(&self.0.programs, &mut to)?;
        traffic(&self.0, &mut to)?;
        flow_log(&self.0.flow_log, &mut to)?;
        telemetry(&self.0.otlp, &mut to)?;
        services(&self.0.services, &mut to)?;
        backends(&self.0.backends, &mut to)?;
        probes(&self.0.probes, &mut to)?;
        sources(&self.0.discovery, &mut to)
    }
}

fn agent(s: &Snapshot, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let build = Info::new([("version", s.version.as_str())]);
    build.encode(to.encode_descriptor("build", "Version of the agent", None, build.metric_type())?)?;
    scalar(to, "ready", "Whether the tables are loaded and packets are balanced", u64::from(s.ready))?;
    scalar(to, "problems", "What somebody should look at: lines of `meshlb status`", s.problems)?;
    let reconciles = results(&s.reconciles).map(|(result, durations)| ([("result", result)], durations));
    histogram(to, "reconcile_duration_seconds", "How long bringing the maps up to date took", reconciles)?;
    total(to, "correlated_failures", "How often probes of many backends began to fail at once", s.incidents)
}

fn config(s: &Snapshot, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let hash = Info::new([("hash", s.config_hash.as_str())]);
    let help = "Hash of the configuration in force, in which secrets have no part";
    hash.encode(to.encode_descriptor("config", help, None, hash.metric_type())?)?;
    let last_ok = u64::from(!s.reloads.last_failed);
    scalar(to, "config_last_reload_ok", "Whether the last reload was taken over", last_ok)?;
    let reloads = [([("result", "ok")], s.reloads.ok), ([("result", "failed")], s.reloads.failed)];
    counter(to, "config_reloads", "Reloads of the configuration since the agent started", reloads)?;
    let help = "When the configuration was last read, at the start or by a reload, whatever came of it";
    scalar(to, "config_last_reload_timestamp_seconds", help, s.reloads.last_time)
}

fn programs(programs: &[Program], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let verified = programs.iter().filter_map(|program| {
        Some(([("program", program.name.as_str())], program.verified_instructions?.into()))
    });
    gauge(to, "program_verified_instructions", "Instructions that the verifier walked through", verified)?;
    let runs = || programs.iter().filter_map(|it| Some(([("program", it.name.as_str())], it.runs?)));
    let help = "How often the kernel ran the program, while it counts that";
    counter(to, "program_runs", help, runs().map(|(labels, runs)| (labels, runs.count)))?;
    let help = "Time that the program ran, with what it calls, while the kernel counts that";
    let mut family = to.encode_descriptor("program_run_seconds", help, None, MetricType::Counter)?;
    let mut each = runs();
    each.try_for_each(|(labels, runs)| {
        ConstCounter::new(runs.took.as_secs_f64()).encode(family.encode_family(&labels)?)
    })
}

fn probes(probes: &BTreeMap<String, Outcomes>, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let durations = probes.iter().flat_map(|(service, outcomes)| {
        let labels = |result| [("service", service.as_str()), ("result", result)];
        results(outcomes).map(|(result, durations)| (labels(result), durations))
    });
    histogram(to, "probe_duration_seconds", "How long probes of the service's backends took", durations)
}

fn traffic(s: &Snapshot, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let outcomes = s.outcomes.iter().map(|(outcome, &n)| ([("outcome", outcome.as_str())], n));
    counter(to, "packets", "Packets by the outcome of their journey", outcomes)?;
    let routed = s.quic.routed.iter().map(|(way, &n)| ([("routed", way.as_str())], n));
    counter(to, "quic_packets", "Packets of QUIC services by what led them to their backends", routed)?;
    let rotations = s.quic.rotations.iter().map(|(rotation, &n)| ([("rotation", rotation.as_str())], n));
    counter(
        to,
        "quic_rotation_packets",
        "Packets of QUIC services by the codepoint of connection ids that servers have chosen",
        rotations,
    )?;
    scalar(to, "flow_entries", "Entries in use of the flow tables, both families", s.flows.used)?;
    scalar(to, "flow_capacity", "Entries the flow tables have room for, both families", s.flows.capacity)?;
    scalar(to, "connections", "Connections whose packets are translated", s.connections.used)?;
    let help = "Connections whose packets are translated that there is room for";
    scalar(to, "connection_capacity", help, s.connections.capacity)
}

fn flow_log(tally: &Tally, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    total(to, "flow_log_records", "Records of the flow log that were written", tally.written)?;
    let lost = [([("by", "kernel")], tally.missed), ([("by", "write")], tally.unwritten)];
    counter(
        to,
        "flow_log_lost",
        "Segments that the kernel had no room for, and records that were not written",
        lost,
    )
}

fn telemetry(tally: &otlp::Tally, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    total(to, "otlp_sent", "Spans and log records that the collector took", tally.sent)?;
    total(to, "otlp_dropped", "Spans and log records that the collector did not get", tally.dropped)
}

fn services(services: &[ServiceView], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let slots = services.iter().flat_map(|s| {
        let phases =
            [("steady", s.slots.steady), ("migrating", s.slots.migrating), ("settling", s.slots.settling)];
        phases.map(|(phase, n)| ([("service", s.name.as_str()), ("phase", phase)], u64::from(n)))
    });
    gauge(to, "service_slots", "Slots of the service's table by phase", slots)?;
    let panic = services.iter().map(|s| ([("service", s.name.as_str())], u64::from(s.panic)));
    gauge(
        to,
        "service_panic",
        "Whether too little healthy weight is left, so that all backends are used",
        panic,
    )?;
    let flooded = services.iter().map(|s| ([("service", s.name.as_str())], u64::from(s.flooded)));
    gauge(to, "service_flooded", "Whether more flows of the service begin than are remembered", flooded)?;
    let shares = services.iter().flat_map(|s| {
        let labels = |group| [("service", s.name.as_str()), ("group", group)];
        s.groups.iter().map(move |group| (labels(group.name.as_str()), u64::from(group.share)))
    });
    gauge(
        to,
        "group_share",
        "Share of the group in the service's split, the operator's if there is one",
        shares,
    )?;
    let flows = services.iter().map(|s| ([("service", s.name.as_str())], s.recorded_flows));
    gauge(to, "service_recorded_flows", "Flows in the flow table that are not closing", flows)?;
    let most = services.iter().filter_map(|s| Some(([("service", s.name.as_str())], s.max_flows?.into())));
    gauge(to, "service_max_flows", "How many flows the service may have, where they are limited", most)
}

fn backends(backends: &[BackendView], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let each = |value: fn(&BackendView) -> u64| {
        backends.iter().map(move |b| {
            let labels = [("service", b.service.as_str()), ("backend", b.address.as_str())];
            (labels, value(b))
        })
    };
    let up = each(|b| u64::from(b.state == "up"));
    gauge(to, "backend_up", "Whether the backend is healthy, has a next hop and is not draining", up)?;
    gauge(
        to,
        "backend_weight",
        "Weight of the backend, the operator's if there is one",
        each(|b| u64::from(b.weight)),
    )?;
    counter(to, "backend_packets", "Packets forwarded to the backend", each(|b| b.packets))?;
    counter(to, "backend_bytes", "Bytes forwarded to the backend", each(|b| b.bytes))?;
    counter(to, "backend_new_flows", "Flows that began at the backend", each(|b| b.new_flows))?;
    counter(to, "backend_replies", "Translated answers of the backend", each(|b| b.replies))?;
    counter(
        to,
        "backend_reply_bytes",
        "Bytes of translated answers of the backend",
        each(|b| b.reply_bytes),
    )?;
    counter(to, "backend_refused", "Translated connections that the backend refused", each(|b| b.refused))?;
    let help = "Translated connections that the backend did not answer";
    counter(to, "backend_unanswered", help, each(|b| b.unanswered))?;
    let reachable = each(|b| u64::from(b.next_hop.is_some()));
    gauge(to, "backend_reachable", "Whether the next hop to the backend is known", reachable)?;
    let judged = backends.iter().filter_map(|b| {
        let state = b.health.as_ref()?.state.as_str();
        let labels = [("service", b.service.as_str()), ("backend", b.address.as_str())];
        (state != "unknown").then(|| (labels, u64::from(state == "up")))
    });
    gauge(to, "backend_healthy", "Whether the backend's probes say that it is up", judged)?;
    let held = each(|b| b.health.as_ref().is_some_and(|health| health.held).into());
    gauge(to, "backend_held", "Whether the backend's probes fail and it stays up, since many fail", held)?;
    let ejected = each(|b| b.ejected.is_some().into());
    gauge(to, "backend_ejected", "Whether the backend gets no new flows, since it failed clients", ejected)?;
    counter(to, "backend_ejections", "How often the backend was ejected", each(|b| b.ejections))?;
    let recorded = each(|b| b.recorded_flows);
    gauge(to, "backend_recorded_flows", "Flows in the flow table that are not closing", recorded)
}

fn sources(sources: &[SourceView], to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let each = |value: fn(&SourceView) -> u64| {
        sources.iter().map(move |s| ([("source", s.source.as_str())], value(s)))
    };
    gauge(to, "discovery_up", "Whether the source answers", each(|s| u64::from(s.state == "live")))?;
    gauge(to, "discovery_instances", "Instances that the source knows", each(|s| s.instances.into()))?;
    let age = |s: &SourceView| Some(Duration::try_from_secs_f64(s.age_seconds?).ok()?.as_secs());
    let ages = sources.iter().filter_map(|s| Some(([("source", s.source.as_str())], age(s)?)));
    gauge(to, "discovery_age_seconds", "Time since the source last said so or confirmed it", ages)?;
    counter(to, "discovery_errors", "Failures of the source since it is followed", each(|s| s.errors))
}

/// A counter without labels.
fn total(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = ConstCounter::new(value);
    value.encode(to.encode_descriptor(name, help, None, value.metric_type())?)
}

/// A gauge without labels.
fn scalar(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = ConstGauge::new(value);
    value.encode(to.encode_descriptor(name, help, None, value.metric_type())?)
}

/// One value with `N` labels.
type Sample<'a, const N: usize> = ([(&'a str, &'a str); N], u64);

/// Gauges that differ in their labels.
fn gauge<'a, const N: usize>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<'a, N>>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    samples
        .into_iter()
        .try_for_each(|(labels, value)| ConstGauge::new(value).encode(family.encode_family(&labels)?))
}

/// Lengths, by what became of it.
const fn results(outcomes: &Outcomes) -> [(&'static str, &Durations); 2] {
    [("ok", &outcomes.ok), ("failed", &outcomes.failed)]
}

/// Histograms that differ in their labels.
fn histogram<'a, const N: usize>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = ([(&'a str, &'a str); N], &'a Durations)>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    samples.into_iter().try_for_each(|(labels, durations)| {
        let (seconds, count, buckets) = (durations.seconds(), durations.count(), durations.buckets());
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    })
}

/// Counters that differ in their labels. The text gets `_total` behind the name.
pub(crate) fn counter<'a, const N: usize>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = Sample<'a, N>>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    samples
        .into_iter()
        .try_for_each(|(labels, value)| ConstCounter::new(value).encode(family.encode_family(&labels)?))
}

#[cfg(test)]
mod tests;
