//! What `meshlb reload`, `drain`, `undrain`, `weight`, `split`, `maintenance` and `heartbeat` did.

use std::time::Duration;

use crate::api::types::{
    DrainProgress, GroupView, HeartbeatReport, MaintenanceReport, OrderReport, ReloadReport, ServiceChange,
    SettingChange, SplitReport,
};
use crate::cli::format::{age, count};

/// The services that a reload touches and what becomes of them, and what only a restart will change.
pub(in crate::cli) fn reloaded(report: &ReloadReport) -> String {
    let mut text = match (report.dry_run, report.changed) {
        (false, true) => "reloaded\n",
        (true, true) => "a reload would do this, and has not been done\n",
        (false, false) => "nothing changed\n",
        (true, false) => "a reload would change nothing\n",
    }
    .to_owned();
    for change in &report.services {
        text += &changed(change);
    }
    if !report.restart_needed.is_empty() {
        text += &format!("needs a restart of the agent: {}\n", report.restart_needed.join(", "));
    }
    text
}

/// More backends of a service that come, go or change are counted, not listed.
const LISTED: usize = 10;

fn changed(change: &ServiceChange) -> String {
    let ServiceChange { service, key, change: what, settings, slots, slots_moved, .. } = change;
    let slots = match what.as_str() {
        "changed" => format!("{slots_moved} of {slots} slots move"),
        _ => format!("{slots} slots"),
    };
    let settings = settings.iter().map(|it| format!("  {}\n", setting(it)));
    let changes = change.backends_changed.iter().map(|backend| {
        let settings: Vec<_> = backend.settings.iter().map(setting).collect();
        format!("{} {}", backend.address, settings.join(", "))
    });
    format!("{what}: {service} {key}, {slots}\n")
        + &settings.collect::<String>()
        + &backends('+', change.backends_added.iter().cloned())
        + &backends('-', change.backends_removed.iter().cloned())
        + &backends('~', changes)
}

fn setting(SettingChange { key, from, to }: &SettingChange) -> String {
    match (from, to) {
        (None, None) => key.clone(),
        (Some(from), Some(to)) => format!("{key}: {from} -> {to}"),
        (None, Some(to)) => format!("{key}: {to}"),
        (Some(from), None) => format!("{key}: {from} -> as by default"),
    }
}

fn backends(sign: char, lines: impl ExactSizeIterator<Item = String>) -> String {
    let more = lines.len().saturating_sub(LISTED);
    let shown: String = lines.take(LISTED).map(|line| format!("  {sign} {line}\n")).collect();
    shown + &if more > 0 { format!("  {sign} … and {more} more\n") } else { String::new() }
}

/// What happens to the backend now, and how to watch it.
pub(in crate::cli) fn drained(report: &OrderReport) -> String {
    let OrderReport { service, backend, draining, forgotten, .. } = report;
    let text = if *draining {
        format!("{service} {backend} is draining: it keeps its flows and gets no new ones\n")
            + &format!("watch it with: meshlb drain {service} {backend} --wait\n")
    } else {
        format!("{service} {backend} gets new flows again\n")
    };
    text + &unless_kept(forgotten.as_deref())
}

/// The weight of a backend from now on.
pub(in crate::cli) fn weighed(report: &OrderReport) -> String {
    let OrderReport { service, backend, weight, is_configured_weight, forgotten, .. } = report;
    let whose = if *is_configured_weight { ", as configured" } else { "" };
    format!("{service} {backend} has the weight {weight}{whose}\n") + &unless_kept(forgotten.as_deref())
}

/// What each group of a service gets from now on.
pub(in crate::cli) fn split(report: &SplitReport) -> String {
    let SplitReport { service, groups, is_configured_split, forgotten } = report;
    if groups.is_empty() {
        return format!("{service} has no split\n") + &unless_kept(forgotten.as_deref());
    }
    let whose = if *is_configured_split { ", as configured" } else { "" };
    let line = |group: &GroupView| {
        let GroupView { name, share, configured_share, percent, backends, up } = group;
        let ordered = if share == configured_share {
            String::new()
        } else {
            format!(", configured {configured_share}")
        };
        format!(
            "  {name} {share}{ordered}: {percent:.1} % of new flows, {up} of {backends} backends take some\n"
        )
    };
    format!("{service} is split between {} groups{whose}\n", groups.len())
        + &groups.iter().map(line).collect::<String>()
        + &unless_kept(forgotten.as_deref())
}

/// What maintenance of a host means now.
pub(in crate::cli) fn maintained(report: &MaintenanceReport) -> String {
    let MaintenanceReport { backend, maintenance, services, forgotten } = report;
    let of = services.join(", ");
    let text = if *maintenance {
        format!("{backend} is in maintenance: it is drained as a backend of {of}\n")
    } else {
        format!("{backend} is not in maintenance: a backend of {of}\n")
    };
    text + &unless_kept(forgotten.as_deref())
}

/// What was taken down about a backend.
pub(in crate::cli) fn reported(report: &HeartbeatReport) -> String {
    let HeartbeatReport { service, backend, failing, load } = report;
    let state = failing.as_ref().map_or("it is well".to_owned(), |reason| format!("it fails: {reason}"));
    let load = load.map_or(String::new(), |load| format!(", its load {load}"));
    format!("{service} {backend} reports that {state}{load}\n")
}

/// A line for who waits for a drain.
pub(in crate::cli) fn draining(progress: &DrainProgress, silence: Duration) -> String {
    let DrainProgress { service, backend, slots, leaving, flows, packets, .. } = progress;
    let waiting = if *slots > 0 { format!(", {slots} slots still name it") } else { String::new() };
    format!(
        "{service} {backend}: {flows} flows left, {leaving} slots changing over{waiting}; {} packets, the last {} ago",
        count(*packets),
        age(silence.as_secs_f64())
    )
}

/// The end of a drain.
pub(in crate::cli) fn safe_to_stop(progress: &DrainProgress) -> String {
    let DrainProgress { service, backend, leaving, .. } = progress;
    let silent = match leaving {
        0 => String::new(),
        _ => "flows that have been silent, if any, would be lost\n".to_owned(),
    };
    format!("{silent}{service} {backend}: safe to stop\n")
}

pub(super) fn unless_kept(forgotten: Option<&str>) -> String {
    forgotten.map(|reason| format!("{reason}\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::BackendChange;

    #[test]
    fn a_reload_says_what_becomes_of_services_and_their_backends() {
        let setting = |key: &str, from: Option<&str>, to: Option<&str>| SettingChange {
            key: key.into(),
            from: from.map(Into::into),
            to: to.map(Into::into),
        };
        let added = ServiceChange {
            service: "dns".into(),
            key: "203.0.113.53:53/udp".into(),
            change: "added".into(),
            backends_added: (0..12).map(|last| format!("10.0.0.{last}")).collect(),
            slots: 1021,
            slots_moved: 1021,
            ..ServiceChange::default()
        };
        let changed = ServiceChange {
            service: "web".into(),
            key: "203.0.113.10:80/tcp".into(),
            change: "changed".into(),
            settings: vec![
                setting("window", Some("30m"), Some("1m")),
                setting("health", None, None),
                setting("max_flows", Some("9"), None),
            ],
            backends_removed: vec!["10.0.0.1".into()],
            backends_changed: vec![BackendChange {
                address: "10.0.0.3".into(),
                settings: vec![setting("weight", Some("100"), Some("5"))],
            }],
            slots: 1021,
            slots_moved: 340,
            ..ServiceChange::default()
        };
        let mut report = ReloadReport {
            changed: true,
            restart_needed: vec!["limits.flows".into()],
            services: vec![added, changed],
            ..ReloadReport::default()
        };
        let text = reloaded(&report);
        let (begin, rest) = text.split_once("  + 10.0.0.9\n").unwrap();
        assert!(
            begin.starts_with("reloaded\nadded: dns 203.0.113.53:53/udp, 1021 slots\n  + 10.0.0.0\n"),
            "{text}"
        );
        let expected = "  + … and 2 more\nchanged: web 203.0.113.10:80/tcp, 340 of 1021 slots move\n  window: 30m -> 1m\n  \
                        health\n  max_flows: 9 -> as by default\n  - 10.0.0.1\n  ~ 10.0.0.3 weight: 100 -> 5\n\
                        needs a restart of the agent: limits.flows\n";
        assert_eq!(rest, expected);
        report.dry_run = true;
        assert!(reloaded(&report).starts_with("a reload would do this, and has not been done\n"));
        assert_eq!(reloaded(&ReloadReport::default()), "nothing changed\n");
    }

    #[test]
    fn a_drain_says_how_to_watch_it() {
        let mut report = OrderReport {
            service: "web".into(),
            backend: "fd00::1".into(),
            draining: true,
            ..OrderReport::default()
        };
        assert!(drained(&report).ends_with("watch it with: meshlb drain web fd00::1 --wait\n"));
        report.draining = false;
        assert_eq!(drained(&report), "web fd00::1 gets new flows again\n");
        report.forgotten = Some("it will be forgotten: the disk is full".into());
        assert!(drained(&report).ends_with("again\nit will be forgotten: the disk is full\n"));
    }

    #[test]
    fn weights_maintenance_and_reports_are_said_again() {
        let report = OrderReport {
            service: "web".into(),
            backend: "10.0.0.1".into(),
            weight: 7,
            ..OrderReport::default()
        };
        assert_eq!(weighed(&report), "web 10.0.0.1 has the weight 7\n");
        let configured = OrderReport { is_configured_weight: true, ..report };
        assert_eq!(weighed(&configured), "web 10.0.0.1 has the weight 7, as configured\n");
        let mut work = MaintenanceReport {
            backend: "10.0.0.1".into(),
            maintenance: true,
            services: vec!["web".into(), "dns".into()],
            forgotten: None,
        };
        let expected = "10.0.0.1 is in maintenance: it is drained as a backend of web, dns\n";
        assert_eq!(maintained(&work), expected);
        work.maintenance = false;
        assert_eq!(maintained(&work), "10.0.0.1 is not in maintenance: a backend of web, dns\n");
        let mut heartbeat =
            HeartbeatReport { service: "web".into(), backend: "10.0.0.1".into(), failing: None, load: None };
        assert_eq!(reported(&heartbeat), "web 10.0.0.1 reports that it is well\n");
        heartbeat.load = Some(0.7);
        assert_eq!(reported(&heartbeat), "web 10.0.0.1 reports that it is well, its load 0.7\n");
        (heartbeat.failing, heartbeat.load) = (Some("overload".into()), None);
        assert_eq!(reported(&heartbeat), "web 10.0.0.1 reports that it fails: overload\n");
    }

    #[test]
    fn a_drain_that_is_watched_says_what_is_left() {
        let mut progress = DrainProgress {
            service: "web".into(),
            backend: "10.0.0.1".into(),
            draining: true,
            leaving: 300,
            flows: 2,
            packets: 10,
            ..DrainProgress::default()
        };
        let line = draining(&progress, Duration::from_secs(3));
        assert_eq!(line, "web 10.0.0.1: 2 flows left, 300 slots changing over; 10 packets, the last 3s ago");
        let silent = "flows that have been silent, if any, would be lost\n";
        assert_eq!(safe_to_stop(&progress), format!("{silent}web 10.0.0.1: safe to stop\n"));
        progress.leaving = 0;
        assert_eq!(safe_to_stop(&progress), "web 10.0.0.1: safe to stop\n");
    }

    #[test]
    fn a_split_says_what_each_group_gets() {
        let group = |name: &str, share, configured_share, percent| GroupView {
            name: name.into(),
            share,
            configured_share,
            percent,
            backends: 4,
            up: 3,
        };
        let groups = vec![group("canary", 20, 5, 20.0), group("stable", 80, 80, 80.0)];
        let mut report = SplitReport { service: "web".into(), groups, ..SplitReport::default() };
        let expected = "web is split between 2 groups\n  \
                        canary 20, configured 5: 20.0 % of new flows, 3 of 4 backends take some\n  \
                        stable 80: 80.0 % of new flows, 3 of 4 backends take some\n";
        assert_eq!(split(&report), expected);
        (report.is_configured_split, report.forgotten) = (true, Some("disk full".into()));
        assert!(split(&report).starts_with("web is split between 2 groups, as configured\n"));
        assert!(split(&report).ends_with("\ndisk full\n"));
        report.groups.clear();
        assert_eq!(split(&report), "web has no split\ndisk full\n");
    }
}
