//! `meshlb backends`.

use crate::api::types::BackendView;
use crate::cli::format::{age, count};
use crate::cli::table::Column::{Number, Text};
use crate::cli::table::table;

/// One line per backend; behind it, why a backend is not up, as far as its probes know.
pub(in crate::cli) fn backends(backends: &[BackendView]) -> String {
    let columns = [
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
    table(&columns, backends.iter().map(row).collect())
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

/// An error of a single failed probe of a backend that is up is worth a look too.
fn note(b: &BackendView) -> String {
    b.health.as_ref().and_then(|h| h.last_error.clone()).unwrap_or_default()
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
            state: "up".into(),
            health: Some(HealthView {
                state: "up".into(),
                since_seconds: 11_000.0,
                last_error: None,
                latency_ms: Some(0.4),
            }),
            next_hop: Some("eth0 02:00:00:00:00:01 mtu 1500".into()),
            slots: 8191,
            packets: 1_234_567,
            bytes: 987_654_321,
            new_flows: 4321,
        }
    }

    fn down() -> BackendView {
        let health = HealthView {
            state: "down".into(),
            since_seconds: 42.0,
            last_error: Some("connection refused".into()),
            latency_ms: None,
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
