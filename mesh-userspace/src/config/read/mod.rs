//! From TOML to valid types. Every problem that can be found independently of the others is found in one pass.
//!
//! The spanned tree is walked by hand and not by serde: serde stops at the first problem, and neither names the place
//! of an unknown key nor of a missing one.

mod across;
mod agent;
mod backend;
mod discovery;
mod faces;
mod health;
mod outer_source;
mod performance;
mod quic;
mod report;
mod section;
mod service;
mod syntax;
mod tracking;
mod value;

use toml::de::DeTable;

use super::{Config, Limits, Problem};
use report::Report;
use section::{Key, Section};

pub(super) use value::refusal;

/// Parses and validates a whole configuration.
pub(super) fn config(text: &str) -> Result<Config, Vec<Problem>> {
    let root = DeTable::parse(text).map_err(|error| vec![syntax::problem(&error)])?;
    let mut report = Report::new(text);
    let config = root_section(Section::root(root.get_ref(), &mut report));
    report.finish(config)
}

fn root_section(mut root: Section<'_, '_>) -> Option<Config> {
    let agent = root.required_section("agent").and_then(agent::agent);
    let api = root.section("api").map(faces::api).unwrap_or_default();
    let metrics = root.section("metrics").map(faces::metrics).unwrap_or_default();
    let log = root.section("log").map(faces::log).unwrap_or_default();
    let limits = root.section("limits").map(limits).unwrap_or_default();
    let probing = root.section("health").map(health::probing).unwrap_or_default();
    let services = root.sections("service", service::service);
    across::check(&services, limits, root.report());
    root.finish();
    let services = services.into_iter().map(|placed| placed.service).collect();
    Some(Config { agent: agent?, api, metrics, log, limits, probing, services })
}

fn limits(mut section: Section<'_, '_>) -> Limits {
    let default = Limits::default();
    let mut limit = |name, example, default| {
        section.or(Key(name, example), value::number("the limit", 1..=u32::MAX), default)
    };
    let limits = Limits {
        services: limit("services", "1024", default.services),
        backends: limit("backends", "4096", default.backends),
        slots: limit("slots", "1048576", default.slots),
        rules: limit("rules", "65536", default.rules),
        flows: limit("flows", "262144", default.flows),
    };
    section.finish();
    limits
}
