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
    let stale = s.stale_seconds.map(|seconds| format!("discovery {} old", age(seconds)));
    let full = s.max_flows.map(|most| format!("{} of {} flows", count(s.recorded_flows), count(most.into())));
    panic.into_iter().chain(stale).chain(full).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::SlotPhases;

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
    fn a_calm_screen_fits_80_columns() {
        let long = ServiceView { name: "frontend".into(), packets: u64::MAX, bytes: u64::MAX, ..web() };
        assert!(services(&[long]).lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn no_services_are_a_header() {
        assert_eq!(services(&[]), "SERVICE  VIP  VIA  UP  SLOTS  MOVING  PACKETS  BYTES  FLOWS");
    }
}
