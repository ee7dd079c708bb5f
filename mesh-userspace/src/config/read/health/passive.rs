//! Reads `[service.health.passive]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use crate::config::read::report::Report;
use crate::config::read::section::{Key, Section};
use crate::config::read::value;
use crate::config::{Forward, Passive, Problem, Protocol};

/// From a few looks at what connections came to, to what nobody calls present any more.
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);

/// From what spares a few clients to what somebody has surely looked at.
const HOLDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

pub(super) fn passive(mut section: Section<'_, '_>) -> Passive {
    let default = Passive::default();
    let percentage = || value::number("the percentage", 1..=100);
    let failed = section.or(Key("failed", "50"), percentage(), default.failed);
    let least = value::number("the number of connections", 1..=u32::MAX);
    let least = section.or(Key("least", "5"), least, default.least);
    let window = section.or(Key("window", "\"30s\""), value::duration(WINDOWS), default.window);
    let hold = section.or(Key("hold", "\"30s\""), value::duration(HOLDS), default.hold);
    let usual = default.longest.max(hold);
    let longest = section.optional(Key("longest", "\"10min\""), value::duration(HOLDS));
    if let Some(longest) = longest.as_ref().filter(|longest| *longest.get_ref() < hold) {
        let problem = Problem::new("`longest` is shorter than `hold`")
            .advise("write how long a backend gets no new connections at most: `hold` doubles until then");
        section.report().add(problem.at(longest.span()));
    }
    let longest = longest.map_or(usual, Spanned::into_inner);
    let share = section.or(Key("share", "50"), percentage(), default.share);
    section.finish();
    Passive { failed, least, window, hold, longest, share }
}

/// Reports a service of which nobody sees what its connections come to.
pub(in crate::config::read) fn check(
    passive: Option<&Spanned<Passive>>,
    protocol: Option<&Spanned<Protocol>>,
    forward: Option<&Spanned<Forward>>,
    report: &mut Report,
) {
    let Some(passive) = passive else { return };
    if let Some(forward) = forward.filter(|forward| *forward.get_ref() != Forward::Nat) {
        let problem = Problem::new("what backends answer is seen only where it is translated").advise(
            "leave [service.health.passive] away and probe the backends, or write `forward = \"nat\"`",
        );
        report.add(problem.at(passive.span()).beside(forward.span(), "answers go past the balancer"));
    }
    if let Some(protocol) = protocol.filter(|protocol| !protocol.get_ref().has_connections()) {
        let problem = Problem::new(format!("packets over {} need no answer", protocol.get_ref()))
            .advise("leave [service.health.passive] away, and probe the backends");
        report.add(problem.at(passive.span()).beside(protocol.span(), "has no connections"));
    }
}
