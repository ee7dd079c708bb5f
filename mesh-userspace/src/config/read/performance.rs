//! Reads `[service.performance]`.

use toml::Spanned;

use super::report::Report;
use super::section::{Key, Section};
use super::value;
use crate::config::{Health, Performance, ProbeKind, Problem};

const PROBE: &str = "probe the backends, or leave [service.performance] away";
const ASK: &str = "name the header that says it, such as `load_header = \"x-load\"`, in a probe over HTTP; or write \
                   `by = \"latency\"`";

pub(super) fn performance(mut section: Section<'_, '_>) -> Option<Spanned<Performance>> {
    let place = section.span();
    let by = section.required(Key("by", "\"latency\""), value::choice("measure"));
    let floor = section.or(Key("floor", "20"), value::number("the percentage", 1..=100), Performance::FLOOR);
    let moved = section.or(Key("moved", "5"), value::number("the percentage", 1..=100), Performance::MOVED);
    section.finish();
    Some(Spanned::new(place, Performance { by: by?.into_inner(), floor, moved }))
}

/// Reports a measure that nobody takes.
pub(super) fn check(
    performance: Option<&Spanned<Performance>>,
    health: Option<&Spanned<Health>>,
    report: &mut Report,
) {
    let Some(performance) = performance else { return };
    let by = performance.get_ref().by;
    let (missing, advice) = match health.map(|health| &health.get_ref().kind) {
        None => ("without [service.health] nothing is measured", PROBE),
        Some(ProbeKind::Heartbeat { .. }) if by.counts_latency() => {
            ("reports of backends have no latency", PROBE)
        }
        Some(kind) if by.counts_load() && !kind.tells_load() => {
            ("these probes do not learn the load of backends", ASK)
        }
        Some(_) => return,
    };
    report.add(Problem::new(missing).advise(advice).at(performance.span()));
}
