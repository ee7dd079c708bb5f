//! Which flows of a service are recorded: what other keys need, and for how long.

use std::time::Duration;

use toml::Spanned;

use super::report::Report;
use crate::config::{Problem, Protocol, Scheduler, Tracking};

/// Longest silence of a flow without connections: the kernel takes it for new after 59 s, whatever the agent keeps.
const LONGEST_WITHOUT_CONNECTIONS: Duration = Duration::from_secs(59);

/// What may need all flows recorded.
pub(super) struct Asked<'a> {
    pub(super) scheduler: Option<&'a Spanned<Scheduler>>,
    pub(super) max_flows: Option<&'a Spanned<u32>>,
}

/// What is written, else what is needed, else the default. Where packets are translated, their connections are known anyway.
pub(super) fn of(
    written: Option<&Spanned<Tracking>>,
    asked: Asked<'_>,
    is_translated: bool,
    report: &mut Report,
) -> Tracking {
    if is_translated {
        return Tracking::Never;
    }
    let picking = asked.scheduler.filter(|scheduler| scheduler.get_ref().picks());
    let scheduler = picking.map(|it| (format!("`scheduler = \"{}\"`", it.get_ref()), it.span()));
    let cap = asked.max_flows.map(|it| ("`max_flows`".to_owned(), it.span()));
    let Some((what, at)) = scheduler.or(cap) else {
        return written.map_or_else(Tracking::default, |it| *it.get_ref());
    };
    if let Some(other) = written.filter(|it| *it.get_ref() != Tracking::Always) {
        let problem = Problem::new(format!("{what} needs every flow recorded, not `{}`", other.get_ref()))
            .advise("leave `tracking` away, or write `tracking = \"always\"`");
        report.add(problem.at(other.span()).beside(at, "this needs it"));
    }
    Tracking::Always
}

pub(super) fn check_idle(
    idle: Option<&Spanned<Duration>>,
    protocol: Option<&Spanned<Protocol>>,
    is_translated: bool,
    report: &mut Report,
) {
    let (Some(idle), Some(protocol)) = (idle, protocol) else { return };
    let name = *protocol.get_ref();
    if !is_translated && name != Protocol::Tcp && *idle.get_ref() > LONGEST_WITHOUT_CONNECTIONS {
        let problem = Problem::new(format!("a silent flow over {name} begins anew after 59 s in any case"))
            .advise("write a duration from \"10s\" to \"59s\", or leave `idle_timeout` away");
        report.add(problem.at(idle.span()).beside(protocol.span(), "without connections"));
    }
}
