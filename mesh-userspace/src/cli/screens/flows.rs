//! `meshlb flows`.

use crate::api::types::FlowView;
use crate::cli::format::idle;
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
}
