//! Sources of backends: what they say, and how old it is.

use crate::{
    agent::state::Agent,
    api::types::SourceView,
    config::{self, Discovery},
    discovery::{Report, Word},
};
use std::{
    collections::BTreeMap,
    fmt::Display,
    time::{Duration, SystemTime},
};

impl Agent {
    /// Every source, in the order of the configuration.
    pub(super) fn source_views(&self) -> Vec<SourceView> {
        let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut views = Vec::from_iter(self.fleet_view());
        let (reports, now) = (self.inputs.reports(), SystemTime::now());
        for (service, Discovery { source, .. }) in named(&self.config) {
            let users = services.entry(source.to_string()).or_default();
            if users.is_empty()
                && let Some(report) = reports.get(&source.to_string())
            {
                views.push(source_view((source, &source.kind()), report, now));
            }
            users.push(service.name.clone());
        }
        for view in &mut views {
            view.services.extend(services.remove(&view.source).into_iter().flatten());
        }
        views
    }

    /// Where services are defined, if anywhere else than in the file.
    fn fleet_view(&self) -> Option<SourceView> {
        let from = self.written.services_from.as_ref()?;
        let definitions = self.inputs.definitions();
        let view = source_view((from, &from.kind()), definitions.get(&from.to_string())?, SystemTime::now());
        Some(SourceView { services: self.fleet.names(), ..view })
    }

    /// The names of a service's sources, and how old the oldest word among theirs is that is not live. Seconds.
    pub(super) fn service_sources(&self, service: &config::Service) -> (Vec<String>, Option<f64>) {
        let (reports, now) = (self.inputs.reports(), SystemTime::now());
        let names: Vec<String> = service.discovery.iter().map(|it| it.source.to_string()).collect();
        let known = names.iter().filter_map(|name| reports.get(name));
        let ages = known.filter(|report| report.state() == "stale").filter_map(|report| report.age(now));
        let oldest = ages.max().map(|age| age.as_secs_f64());
        (names, oldest)
    }

    /// What somebody should look at.
    pub(super) fn source_problems(&self) -> Vec<String> {
        let (reports, now) = (self.inputs.reports(), SystemTime::now());
        let mut problems = Vec::new();
        for (source, report) in reports.iter() {
            problems.extend(problem(source, report, now));
            problems.extend(
                report.left_out.iter().map(|it| format!("{source} has entries that are left out: {it}")),
            );
            problems.extend(
                report.unstored.iter().map(|error| format!("what {source} says cannot be stored: {error}")),
            );
        }
        problems.extend(self.remarks.iter().cloned());
        problems
    }
}

/// Each source of each service.
fn named(config: &config::Config) -> impl Iterator<Item = (&config::Service, &Discovery)> {
    config.services.iter().flat_map(|service| service.discovery.iter().map(move |it| (service, it)))
}

fn problem(source: &str, report: &Report, now: SystemTime) -> Option<String> {
    let error = report.error.as_ref()?;
    let since = report.age(now).map(|age| humantime::format_duration(Duration::from_secs(age.as_secs())));
    Some(match since {
        Some(age) => format!("{source} does not answer, its backends are those of {age} ago: {error}"),
        None => format!("{source} does not answer and never has, so that it adds no backend: {error}"),
    })
}

fn source_view<W: Word>(
    (source, kind): (&dyn Display, &dyn Display),
    report: &Report<W>,
    now: SystemTime,
) -> SourceView {
    let instances = report.snapshot.as_ref().map_or(0, |snapshot| snapshot.count());
    SourceView {
        source: source.to_string(),
        kind: kind.to_string(),
        services: Vec::new(),
        state: report.state().to_owned(),
        instances: u32::try_from(instances).unwrap_or(u32::MAX),
        age_seconds: report.age(now).map(|age| age.as_secs_f64()),
        last_error: report.error.clone(),
        errors: report.errors,
    }
}
