//! Reads `[service.performance]`.

use toml::Spanned;

use super::report::Report;
use super::section::{Key, Section};
use super::value;
use crate::config::{Health, Performance, ProbeKind, Problem};

pub(super) fn performance(mut section: Section<'_, '_>) -> Option<Performance> {
    let by = section.required(Key("by", "\"latency\""), value::choice("measure"));
    let floor = section.or(Key("floor", "20"), value::number("the percentage", 1..=100), Performance::FLOOR);
    let moved = section.or(Key("moved", "5"), value::number("the percentage", 1..=100), Performance::MOVED);
    section.finish();
    Some(Performance { by: by?.into_inner(), floor, moved })
}

/// Reports a measure that nobody takes.
pub(super) fn check(
    performance: Option<&Spanned<Performance>>,
    health: Option<&Spanned<Health>>,
    report: &mut Report,
) {
    let Some(performance) = performance else { return };
    let by = performance.get_ref().by;
    let missing = match health.map(|health| &health.get_ref().kind) {
        None => "without [service.health] nothing is measured",
        Some(ProbeKind::Heartbeat { .. }) if by.counts_latency() => "reports of backends have no latency",
        Some(_) => return,
    };
    let problem = Problem::new(missing).advise("probe the backends, or leave [service.performance] away");
    report.add(problem.at(performance.span()));
}
