//! The lines of the flow log.

use super::Turn;
use crate::{agent::trace::Names, dataplane::host_address};
use mesh_common::{abi::whole, notes::FlowEvent};
use serde::{Serialize, Serializer};
use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// The agent logs from now on.
    Opened {
        /// When.
        #[serde(serialize_with = "rfc3339")]
        time: Duration,
    },
    /// It no longer does.
    Closed {
        /// When.
        #[serde(serialize_with = "rfc3339")]
        time: Duration,
    },
    /// A flow began.
    Start {
        /// When its first segment came.
        #[serde(serialize_with = "rfc3339")]
        time: Duration,
        /// Which.
        #[serde(flatten)]
        flow: Flow,
    },
    /// A flow could not begin.
    Refused {
        /// When its segment came.
        #[serde(serialize_with = "rfc3339")]
        time: Duration,
        /// Which.
        #[serde(flatten)]
        flow: Flow,
        /// The outcome of the segment's journey.
        outcome: &'static str,
    },
    /// The client ended a flow.
    End {
        /// When its segment came.
        #[serde(serialize_with = "rfc3339")]
        time: Duration,
        /// Which.
        #[serde(flatten)]
        flow: Flow,
        /// `fin` or `rst`.
        reason: &'static str,
        /// Since its beginning, if that was seen.
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_seconds: Option<f64>,
    },
    /// Records are missing here.
    Lost {
        /// When that was noticed.
        #[serde(serialize_with = "rfc3339")]
        time: Duration,
        /// How many; segments, where they have not become records yet.
        count: u64,
        /// Why.
        by: Lost,
    },
}

/// Why records are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// The ring buffer was full.
    Kernel,
    /// They could not be written.
    Write,
}

/// Between whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The name of the service; none if it is gone.
    pub service: Option<String>,
    /// The address of the backend; none if there is none, or it is gone.
    pub backend: Option<String>,
    /// Address and port of the client.
    pub client: SocketAddr,
    /// The address and port that it connected to.
    pub vip: SocketAddr,
    /// `tcp`: of other protocols there is nothing to see.
    pub protocol: &'static str,
}

impl Record {
    /// What a segment that means this is told by.
    pub(super) fn of(event: &FlowEvent, turn: Turn, names: &Names, epoch: Duration) -> Self {
        let to = event.destination;
        let flow = Flow {
            service: names.services.get(&event.service).cloned(),
            backend: names.backends.get(&event.backend).map(|(address, _)| address.clone()),
            client: SocketAddr::new(host_address(whole(event.client)), u16::from_be(event.port)),
            vip: SocketAddr::new(host_address(whole(to.address())), u16::from_be_bytes(to.port())),
            protocol: "tcp",
        };
        let time = epoch + Duration::from_nanos(event.time);
        match turn {
            Turn::Start => Self::Start { time, flow },
            Turn::Refused(outcome) => Self::Refused { time, flow, outcome: outcome.label() },
            Turn::End { is_reset, lasted } => Self::End {
                time,
                flow,
                reason: if is_reset { "rst" } else { "fin" },
                duration_seconds: lasted.as_ref().map(Duration::as_secs_f64),
            },
        }
    }

    /// It, as it is written.
    pub(super) fn line(&self) -> Vec<u8> {
        // Text and numbers are always JSON.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Whether it says that others are missing.
    pub(super) const fn is_about_losses(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

fn rfc3339<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + *time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::wire_address;
    use mesh_common::{
        abi::{ServiceKey, halves, protocol},
        outcome::Outcome,
    };

    fn line(turn: Turn) -> String {
        let event = FlowEvent {
            time: 1_500_000,
            destination: ServiceKey::v4([203, 0, 113, 10], 443_u16.to_be_bytes(), protocol::TCP),
            client: halves(wire_address([198, 51, 100, 7].into())),
            service: 3,
            backend: 4,
            port: 40_000_u16.to_be(),
            ..FlowEvent::default()
        };
        let names =
            Names { services: [(3, "web".into())].into(), backends: [(4, ("10.0.0.2".into(), 3))].into() };
        String::from_utf8(Record::of(&event, turn, &names, Duration::from_secs(1_700_000_000)).line())
            .unwrap()
    }

    const FLOW: &str = r#""time":"2023-11-14T22:13:20.001500Z","service":"web","backend":"10.0.0.2","client":"198.51.100.7:40000","vip":"203.0.113.10:443","protocol":"tcp""#;

    #[test]
    fn lines_are_what_is_documented() {
        let cases = [
            (Turn::Start, "start", ""),
            (Turn::Refused(Outcome::OverCap), "refused", r#","outcome":"over_cap""#),
            (Turn::End { is_reset: true, lasted: None }, "end", r#","reason":"rst""#),
            (
                Turn::End { is_reset: false, lasted: Some(Duration::from_millis(1250)) },
                "end",
                r#","reason":"fin","duration_seconds":1.25"#,
            ),
        ];
        for (turn, event, rest) in cases {
            assert_eq!(line(turn), format!("{{\"event\":\"{event}\",{FLOW}{rest}}}\n"));
        }
        let lost = Record::Lost { time: Duration::from_secs(1), count: 7, by: Lost::Kernel };
        let expected =
            "{\"event\":\"lost\",\"time\":\"1970-01-01T00:00:01.000000Z\",\"count\":7,\"by\":\"kernel\"}\n";
        assert_eq!(String::from_utf8(lost.line()).unwrap(), expected);
    }
}
