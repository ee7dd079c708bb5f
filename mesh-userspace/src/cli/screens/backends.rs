//! `meshlb backends`.

use crate::api::types::BackendView;
use crate::cli::format::{age, count};
use crate::cli::table::Column::{Number, Text};
use crate::cli::table::table;

/// One line per backend; behind it, why a backend is not up, as far as its probes know. Groups and tiers are shown where
/// there are any.
pub(in crate::cli) fn backends(backends: &[BackendView]) -> String {
    let mut columns = vec![
        Text("SERVICE"),
        Text("BACKEND"),
        Text("STATE"),
        Number("SINCE"),
        Number("WEIGHT"),
        Number("SLOTS"),
        Number("PACKETS"),
        Number("BYTES"),
        Number("FLOWS"),
        Text(""),
    ];
    let mut rows: Vec<_> = backends.iter().map(row).collect();
    if backends.iter().any(is_composed) {
        columns.splice(2..2, [Text("GROUP"), Number("TIER")]);
        for (row, backend) in rows.iter_mut().zip(backends) {
            row.splice(2..2, [backend.group.clone(), backend.priority.to_string()]);
        }
    }
    table(&columns, rows)
}

/// Whether a backend is of a tier or a group that tells it from others.
fn is_composed(backend: &BackendView) -> bool {
    backend.priority > 0 || !["", "default"].contains(&backend.group.as_str())
}

fn row(b: &BackendView) -> Vec<String> {
    vec![
        b.service.clone(),
        b.address.clone(),
        b.state.clone(),
        b.health.as_ref().map_or_else(|| "-".to_owned(), |h| age(h.since_seconds)),
        b.weight.to_string(),
        b.slots.to_string(),
        count(b.packets),
        count(b.bytes),
        count(b.new_flows),
        note(b),
    ]
}

/// Whatever makes it another than the rest; an error of a single failed probe of a backend that is up, too.
fn note(b: &BackendView) -> String {
    let health = b.health.as_ref();
    let damped =
        health.is_some_and(|h| h.damped).then(|| "held down, since it went down too often".to_owned());
    let held = health.is_some_and(|h| h.held).then(|| "stays up, since many fail at once".to_owned());
    let is_up = b.state == "up";
    let starting = (is_up && b.starting).then(|| format!("starting, share {}", b.share));
    let slowed = (is_up && !b.starting && b.share < b.weight)
        .then(|| format!("share {}: {}", b.share, b.performance.as_deref().unwrap_or_default()));
    let weight = (b.weight != b.configured_weight)
        .then(|| format!("weight by order, configured {}", b.configured_weight));
    let held_back = b.held_back.clone();
    let ejected = b.ejected.clone();
    let work = b.maintenance.clone().filter(|reason| !reason.is_empty());
    let error = health.and_then(|h| h.last_error.clone());
    let load = health.and_then(|h| h.load_error.clone());
    [work, weight, held_back, ejected, starting, slowed, damped, held, error, load]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::HealthView;

    fn up() -> BackendView {
        BackendView {
            service: "web".into(),
            address: "10.0.1.1".into(),
            source: "configuration".into(),
            weight: 100,
            configured_weight: 100,
            share: 100,
            group: "default".into(),
            priority: 0,
            percent: 50.0,
            held_back: None,
            ejected: None,
            ejections: 0,
            starting: false,
            performance: None,
            drained: false,
            maintenance: None,
            state: "up".into(),
            health: Some(HealthView {
                state: "up".into(),
                since_seconds: 11_000.0,
                last_error: None,
                latency_ms: Some(0.4),
                ..HealthView::default()
            }),
            next_hop: Some("eth0 02:00:00:00:00:01 mtu 1500".into()),
            slots: 8191,
            packets: 1_234_567,
            bytes: 987_654_321,
            replies: 0,
            reply_bytes: 0,
            refused: 0,
            unanswered: 0,
            new_flows: 4321,
            recorded_flows: 12,
        }
    }

    fn down() -> BackendView {
        let health = HealthView {
            state: "down".into(),
            since_seconds: 42.0,
            last_error: Some("connection refused".into()),
            ..HealthView::default()
        };
        BackendView {
            address: "10.0.1.20".into(),
            state: "down".into(),
            health: Some(health),
            slots: 0,
            ..up()
        }
    }

    #[test]
    fn a_backend_is_a_line_that_says_why_it_is_down() {
        let expected = "\
SERVICE  BACKEND    STATE  SINCE  WEIGHT  SLOTS  PACKETS  BYTES  FLOWS
web      10.0.1.1   up      3h3m     100   8191     1.2M   987M   4321
web      10.0.1.20  down     42s     100      0     1.2M   987M   4321  connection refused";
        assert_eq!(backends(&[up(), down()]), expected);
    }

    #[test]
    fn what_is_special_about_a_backend_stands_behind_its_line() {
        let ordered = BackendView {
            weight: 50,
            share: 5,
            starting: true,
            maintenance: Some("new disk".into()),
            ..up()
        };
        let note = "new disk; weight by order, configured 100; starting, share 5";
        assert!(backends(&[ordered]).ends_with(note), "{note}");
        let reason = "of 9 new connections it refused 9 and did not answer 0; it gets new ones again in 7s";
        let ejected = BackendView { state: "ejected".into(), ejected: Some(reason.into()), ..up() };
        assert!(backends(&[ejected]).ends_with(reason));
        let slow = BackendView { share: 40, performance: Some("answers late".into()), ..up() };
        assert!(backends(&[slow]).ends_with("4321  share 40: answers late"));
        let mut held = down();
        held.health.as_mut().unwrap().damped = true;
        assert!(backends(&[held]).ends_with("held down, since it went down too often; connection refused"));
        let mut stays = BackendView { state: "up".into(), ..down() };
        stays.health.as_mut().unwrap().held = true;
        assert!(backends(&[stays]).ends_with("stays up, since many fail at once; connection refused"));
    }

    #[test]
    fn groups_and_tiers_are_columns_where_there_are_any() {
        let canary = BackendView {
            group: "canary".into(),
            priority: 1,
            state: "standby".into(),
            held_back: Some("higher tiers take all flows".into()),
            ..up()
        };
        let expected = "\
SERVICE  BACKEND   GROUP    TIER  STATE    SINCE  WEIGHT  SLOTS  PACKETS  BYTES  FLOWS
web      10.0.1.1  default     0  up        3h3m     100   8191     1.2M   987M   4321
web      10.0.1.1  canary      1  standby   3h3m     100   8191     1.2M   987M   4321  higher tiers take all flows";
        assert_eq!(backends(&[up(), canary]), expected);
    }

    #[test]
    fn a_calm_screen_fits_80_columns() {
        let wide =
            BackendView { address: "10.100.100.100".into(), bytes: u64::MAX, slots: 1_048_573, ..up() };
        assert!(backends(&[wide]).lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn a_backend_without_probes_has_no_age() {
        let unprobed = BackendView { health: None, state: "unresolved".into(), ..up() };
        assert!(backends(&[unprobed]).contains("unresolved      -     100"));
    }
}
