//! `meshlb services`.

use crate::api::types::ServiceView;
use crate::cli::format::{age, count, percent};
use crate::cli::table::Column::{Number, Text};
use crate::cli::table::table;

/// One line per service. `SLOTS` is the size of its table, `MOVING` the part of it that is not at rest.
pub(in crate::cli) fn services(services: &[ServiceView]) -> String {
    let columns = [
        Text("SERVICE"),
        Text("VIP"),
        Text("VIA"),
        Number("UP"),
        Number("SLOTS"),
        Number("MOVING"),
        Number("PACKETS"),
        Number("BYTES"),
        Number("FLOWS"),
        Text(""),
    ];
    table(&columns, services.iter().map(row).collect())
}

fn row(s: &ServiceView) -> Vec<String> {
    let moving = u64::from(s.slots.migrating) + u64::from(s.slots.settling);
    vec![
        s.name.clone(),
        s.key.clone(),
        s.forward.clone(),
        format!("{}/{}", s.up, s.backends),
        s.table_size.to_string(),
        percent(moving, u64::from(s.table_size)),
        count(s.packets),
        count(s.bytes),
        count(s.new_flows),
        notes(s),
    ]
}

fn notes(s: &ServiceView) -> String {
    let panic = s.panic.then(|| "panic".to_owned());
    let flooded = s.flooded.then(|| "flooded".to_owned());
    let stale = s.stale_seconds.map(|seconds| format!("discovery {} old", age(seconds)));
    let full = s.max_flows.map(|most| format!("{} of {} flows", count(s.recorded_flows), count(most.into())));
    let groups = s.groups.iter().map(|group| {
        let by = if group.share == group.configured_share { "" } else { " by order" };
        format!("{} {}{by}: {:.1} %", group.name, group.share, group.percent)
    });
    // That the highest takes all is how it should be.
    let lower = s.tiers.iter().skip(1).any(|tier| tier.percent > 0.0);
    let tiers = s.tiers.iter().filter(|tier| lower && tier.percent > 0.0);
    let tiers = tiers.map(|tier| format!("tier {}: {:.1} %", tier.priority, tier.percent));
    panic
        .into_iter()
        .chain(flooded)
        .chain(groups)
        .chain(tiers)
        .chain(stale)
        .chain(full)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{GroupView, SlotPhases, TierView};

    fn web() -> ServiceView {
        ServiceView {
            name: "web".into(),
            key: "203.0.113.10:80/tcp".into(),
            vip: "203.0.113.10".into(),
            port: 80,
            ports: "80".into(),
            protocol: "tcp".into(),
            scheduler: "maglev".into(),
            forward: "ipip".into(),
            tracking: "adaptive".into(),
            table_size: 16_381,
            slots: SlotPhases { steady: 16_381, ..SlotPhases::default() },
            backends: 3,
            up: 3,
            panic: false,
            packets: 1_234_567,
            bytes: 987_654_321,
            new_flows: 4321,
            recorded_flows: 12,
            max_flows: None,
            flooded: false,
            groups: vec![],
            tiers: vec![],
            sources: vec![],
            stale_seconds: None,
        }
    }

    fn dns() -> ServiceView {
        ServiceView {
            name: "dns".into(),
            key: "[2001:db8::53]:53/udp".into(),
            vip: "2001:db8::53".into(),
            port: 53,
            ports: "53".into(),
            protocol: "udp".into(),
            forward: "l2".into(),
            slots: SlotPhases { steady: 8_000, migrating: 8_000, settling: 381 },
            backends: 12,
            up: 0,
            panic: true,
            stale_seconds: Some(200.0),
            max_flows: Some(10_000),
            ..web()
        }
    }

    #[test]
    fn a_service_is_a_line() {
        let expected = "\
SERVICE  VIP                           VIA     UP  SLOTS  MOVING  PACKETS  BYTES  FLOWS
web      203.0.113.10:80/tcp           ipip   3/3  16381      0%     1.2M   987M   4321
dns      [2001:db8::53]:53/udp         l2    0/12  16381     51%     1.2M   987M   4321  panic, discovery 3m20s old, 12 of 10000 flows
ftp      203.0.113.0/24:8000-8100/tcp  ipip   3/3  16381      0%     1.2M   987M   4321";
        let ftp = ServiceView { name: "ftp".into(), key: "203.0.113.0/24:8000-8100/tcp".into(), ..web() };
        assert_eq!(services(&[web(), dns(), ftp]), expected);
    }

    #[test]
    fn groups_are_shown_and_tiers_while_a_lower_one_takes_flows() {
        let group = |name: &str, share, percent| GroupView {
            name: name.into(),
            share,
            configured_share: 5,
            percent,
            ..GroupView::default()
        };
        let tier = |priority, percent| TierView { priority, percent, ..TierView::default() };
        let split = ServiceView {
            groups: vec![group("canary", 20, 20.0), group("stable", 5, 80.0)],
            tiers: vec![tier(0, 100.0), tier(1, 0.0)],
            ..web()
        };
        assert!(
            services(std::slice::from_ref(&split))
                .ends_with("4321  canary 20 by order: 20.0 %, stable 5: 80.0 %")
        );
        let spilling = ServiceView {
            groups: vec![],
            tiers: vec![tier(0, 85.71), tier(1, 14.29), tier(2, 0.0)],
            ..split
        };
        assert!(services(&[spilling]).ends_with("4321  tier 0: 85.7 %, tier 1: 14.3 %"));
    }

    #[test]
    fn a_calm_screen_fits_80_columns() {
        let long = ServiceView { name: "frontend".into(), packets: u64::MAX, bytes: u64::MAX, ..web() };
        assert!(services(&[long]).lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn no_services_are_a_header() {
        assert_eq!(services(&[]), "SERVICE  VIP  VIA  UP  SLOTS  MOVING  PACKETS  BYTES  FLOWS");
    }
}
