//! What `meshlb reload`, `drain` and `undrain` did.

use crate::api::types::{DrainReport, ReloadReport};

/// The services that a reload touched, and what only a restart will change.
pub(in crate::cli) fn reloaded(report: &ReloadReport) -> String {
    let mut text = if report.changed { "reloaded\n" } else { "nothing changed\n" }.to_owned();
    for (what, names) in [
        ("added", &report.services_added),
        ("removed", &report.services_removed),
        ("changed", &report.services_changed),
        ("needs a restart of the agent", &report.restart_needed),
    ] {
        if !names.is_empty() {
            text += &format!("{what}: {}\n", names.join(", "));
        }
    }
    text
}

/// What happens to the backend now, and how to watch it.
pub(in crate::cli) fn drained(report: &DrainReport) -> String {
    let DrainReport { service, backend, draining } = report;
    if *draining {
        format!("{service} {backend} is draining: it keeps its flows and gets no new ones\n")
            + &format!("watch it with: meshlb backends {service}\n")
    } else {
        format!("{service} {backend} gets new flows again\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_says_what_it_touched() {
        let report = ReloadReport {
            changed: true,
            services_added: vec!["dns".into(), "web".into()],
            services_removed: vec![],
            services_changed: vec!["ntp".into()],
            restart_needed: vec!["limits.flows".into()],
        };
        let expected =
            "reloaded\nadded: dns, web\nchanged: ntp\nneeds a restart of the agent: limits.flows\n";
        assert_eq!(reloaded(&report), expected);
        assert_eq!(reloaded(&ReloadReport::default()), "nothing changed\n");
    }

    #[test]
    fn a_drain_says_how_to_watch_it() {
        let mut report = DrainReport { service: "web".into(), backend: "fd00::1".into(), draining: true };
        assert!(drained(&report).ends_with("watch it with: meshlb backends web\n"));
        report.draining = false;
        assert_eq!(drained(&report), "web fd00::1 gets new flows again\n");
    }
}
