//! `meshlb flows`.

use crate::agent::flows::FlowKey;
use crate::api::types::{FlowCount, FlowView};
use crate::cli::format::{count, idle};
use crate::cli::table::Column::{Number, Text};
use crate::cli::table::table;

/// One line per flow.
pub(in crate::cli) fn flows(flows: &[FlowView]) -> String {
    let columns = [Text("SERVICE"), Text("CLIENT"), Text("BACKEND"), Text("STATE"), Number("IDLE")];
    table(&columns, flows.iter().map(row).collect())
}

fn row(f: &FlowView) -> Vec<String> {
    vec![f.service.clone(), f.client.clone(), f.backend.clone(), f.state.clone(), idle(f.idle_seconds)]
}

/// A column's title, and what stands in it.
type Named = (&'static str, fn(&FlowCount) -> Option<String>);

/// One line per thing that flows are counted by.
pub(in crate::cli) fn counts(counts: &[FlowCount], by: FlowKey) -> String {
    let (service, backend) = (|it: &FlowCount| it.service.clone(), |it: &FlowCount| it.backend.clone());
    let (client, state) = (|it: &FlowCount| it.client.clone(), |it: &FlowCount| it.state.clone());
    let columns: &[Named] = match by {
        FlowKey::Service => &[("SERVICE", service)],
        FlowKey::Backend => &[("SERVICE", service), ("BACKEND", backend)],
        FlowKey::Client => &[("CLIENT", client)],
        FlowKey::State => &[("STATE", state)],
    };
    let row = |it: &FlowCount| {
        let names = columns.iter().map(|(_, name)| name(it).unwrap_or_else(|| "others".to_owned()));
        names.chain([count(it.flows)]).collect()
    };
    let titles: Vec<_> = columns.iter().map(|(title, _)| Text(title)).chain([Number("FLOWS")]).collect();
    table(&titles, counts.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_a_line() {
        let flow = |client: &str, state: &str, idle_seconds| FlowView {
            service: "web".into(),
            client: client.into(),
            backend: "10.0.1.1".into(),
            state: state.into(),
            idle_seconds,
        };
        let list =
            [flow("192.0.2.7:40000", "established", 0.31), flow("[2001:db8::7]:40001", "closing", 75.0)];
        let expected = "\
SERVICE  CLIENT               BACKEND   STATE        IDLE
web      192.0.2.7:40000      10.0.1.1  established  0.3s
web      [2001:db8::7]:40001  10.0.1.1  closing       75s";
        assert_eq!(flows(&list), expected);
    }

    #[test]
    fn flows_are_counted_by_what_was_asked_for() {
        let some = |text: &str| Some(text.to_owned());
        let at =
            FlowCount { service: some("web"), backend: some("10.0.1.1"), flows: 31, ..FlowCount::default() };
        let others = FlowCount { flows: 7, ..FlowCount::default() };
        let client = FlowCount { client: some("192.0.2.7"), flows: 120_000, ..FlowCount::default() };
        assert_eq!(counts(&[at], FlowKey::Backend), "SERVICE  BACKEND   FLOWS\nweb      10.0.1.1     31");
        assert_eq!(
            counts(&[client, others], FlowKey::Client),
            "CLIENT     FLOWS\n192.0.2.7   120K\nothers         7"
        );
    }
}
