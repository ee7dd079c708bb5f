//! `meshlb guard`.

use super::changes::unless_kept;
use crate::api::types::{ClientOrderView, GuardView};
use crate::cli::format::age;
use crate::cli::table::Column::Text;
use crate::cli::table::table;

/// One line per order, and one for what is configured.
pub(in crate::cli) fn guards(guards: &[GuardView]) -> String {
    let columns = [Text("SERVICE"), Text("CLIENTS"), Text("ARE"), Text("FOR")];
    table(&columns, guards.iter().flat_map(rows).collect())
}

fn rows(guard: &GuardView) -> Vec<Vec<String>> {
    let configured = (guard.configured > 0).then(|| {
        let clients = format!("{} prefixes", guard.configured);
        vec![guard.service.clone(), clients, "as configured".to_owned(), String::new()]
    });
    let ordered = guard.ordered.iter().map(|order| row(&guard.service, order));
    let others = vec![guard.service.clone(), "others".to_owned(), admitted(&guard.others), String::new()];
    configured.into_iter().chain(ordered).chain([others]).collect()
}

fn row(service: &str, order: &ClientOrderView) -> Vec<String> {
    let lasts = order.remaining_seconds.map(age).unwrap_or_default();
    vec![service.to_owned(), order.prefix.clone(), admitted(&order.admittance), lasts]
}

fn admitted(admittance: &str) -> String {
    (if admittance == "deny" { "kept out" } else { "let in" }).to_owned()
}

/// What an order about clients has made of a guard.
pub(in crate::cli) fn guard(view: &GuardView) -> String {
    format!("{}\n{}", guards(std::slice::from_ref(view)), unless_kept(view.forgotten.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_says_who_is_let_in() {
        let order = |prefix: &str, admittance: &str, remaining_seconds| ClientOrderView {
            prefix: prefix.into(),
            admittance: admittance.into(),
            remaining_seconds,
        };
        let mut view = GuardView {
            service: "web".into(),
            others: "allow".into(),
            configured: 7,
            ordered: vec![
                order("198.51.100.7/32", "deny", Some(7200.0)),
                order("2001:db8::/32", "allow", None),
            ],
            forgotten: None,
        };
        let expected = "\
SERVICE  CLIENTS          ARE            FOR
web      7 prefixes       as configured
web      198.51.100.7/32  kept out       2h
web      2001:db8::/32    let in
web      others           let in";
        assert_eq!(guards(std::slice::from_ref(&view)), expected);
        (view.configured, view.ordered, view.forgotten) = (0, vec![], Some("disk full".into()));
        assert_eq!(guard(&view), "SERVICE  CLIENTS  ARE     FOR\nweb      others   let in\ndisk full\n");
    }
}
