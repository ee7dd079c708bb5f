//! From TOML to valid types. Every problem that can be found independently of the others is found in one pass.
//!
//! The spanned tree is walked by hand and not by serde: serde stops at the first problem, and neither names the place
//! of an unknown key nor of a missing one.

mod across;
mod agent;
mod backend;
mod composition;
mod definition;
mod discovery;
mod faces;
mod guard;
mod health;
mod include;
mod json;
mod nat;
mod outer_source;
mod performance;
mod quic;
mod report;
mod section;
mod service;
mod syntax;
mod tls;
mod tracking;
mod value;

use std::iter;

use toml::Spanned;
use toml::de::DeTable;

use super::source::SourceFile;
use super::{Config, Limits, Problem, Source};
use crate::guard::LARGEST;
use report::Report;
use section::{Key, Section};

pub(super) use include::include;
pub(super) use value::refusal;

/// Parses and validates a whole configuration.
pub(super) fn config(source: &Source) -> Result<Config, Vec<Problem>> {
    let files = || iter::once(source.main()).chain(source.others());
    let (mut parsed, mut wrong) = (Vec::new(), Vec::new());
    for file in files() {
        match include::parsed(file) {
            Ok(table) => parsed.push((file, table)),
            Err(problem) => wrong.push(problem),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut report = Report::new(files());
    let config = whole(&parsed, source.name(), &mut report);
    report.finish(config)
}

/// The configuration of a main file's table, of those of the files that it includes, and of services defined elsewhere.
fn whole(files: &[(&SourceFile, DeTable<'_>)], name: &str, report: &mut Report) -> Option<Config> {
    let ((_, main), others) = files.split_first()?;
    let mut root = Section::root(main, report);
    let include = root.optional(Key("include", "\"/etc/meshlb/conf.d\""), include::directory);
    let services_from = root.section("services_from").and_then(discovery::services_from);
    let agent = root.required_section("agent").and_then(agent::agent);
    let api = root.section("api").map(faces::api).unwrap_or_default();
    let metrics = root.section("metrics").map(faces::metrics).unwrap_or_default();
    let web = root.section("web").map(faces::web).unwrap_or_default();
    let log = root.section("log").map(faces::log).unwrap_or_default();
    let flow_log = root.section("flow_log").and_then(faces::flow_log);
    let otlp = root.section("otlp").and_then(discovery::otlp);
    let limits = root.section("limits").map(limits).unwrap_or_default();
    let probing = root.section("health").map(health::probing).unwrap_or_default();
    let mut services = root.sections("service", service::service);
    root.finish();
    for (file, table) in others {
        match &file.defines {
            None => services.extend(include::services(table, name, report)),
            Some(service) => services.extend(definition::service(table, service, report)),
        }
    }
    across::check(&services, limits, report);
    let services = services.into_iter().map(|placed| placed.service).collect();
    let include = include.map(Spanned::into_inner);
    Some(Config {
        include,
        services_from,
        agent: agent?,
        api,
        metrics,
        web,
        log,
        flow_log,
        otlp,
        limits,
        probing,
        services,
    })
}

fn limits(mut section: Section<'_, '_>) -> Limits {
    let default = Limits::default();
    let mut limit = |name, example, default| {
        section.or(Key(name, example), value::number("the limit", 1..=u32::MAX), default)
    };
    let mut limits = Limits {
        services: limit("services", "1024", default.services),
        backends: limit("backends", "4096", default.backends),
        slots: limit("slots", "1048576", default.slots),
        rules: limit("rules", "65536", default.rules),
        flows: limit("flows", "262144", default.flows),
        connections: limit("connections", "131072", default.connections),
        prefixes: default.prefixes,
    };
    let prefixes = value::number("the limit", 1..=LARGEST);
    limits.prefixes = section.or(Key("prefixes", "16384"), prefixes, default.prefixes);
    section.finish();
    limits
}
