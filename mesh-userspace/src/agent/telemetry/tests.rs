use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::{config::ProbeName, health::Probed, otlp::Record};

const BACKEND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn telemetry() -> (Telemetry, mpsc::Receiver<Record>) {
    let (exporter, records) = Exporter::to_nobody();
    (Telemetry::new(exporter, true), records)
}

/// A backend goes down, by a probe at this second.
fn go_down(telemetry: &mut Telemetry, second: u64) {
    let took = Duration::from_secs(1);
    let probe = Probed { begun: at(second), took, error: Some("refused".into()) };
    let turn = Turn { kind: ProbeName::Tcp, probes: vec![probe] };
    telemetry.open_turn("web", BACKEND, State::Down, &turn);
}

fn write(telemetry: &mut Telemetry, second: u64, error: Option<&str>) {
    let error = error.map(str::to_owned);
    telemetry.close(&Reconciled { begun: at(second), ended: at(second + 1), ops: 3, error });
}

/// Name, beginning and end in seconds, and why it failed.
fn told(records: &mut mpsc::Receiver<Record>) -> Vec<(String, u64, u64, Option<String>)> {
    let mut spans = Vec::new();
    while let Ok(Record::Span(span)) = records.try_recv() {
        let seconds = |nanoseconds| nanoseconds / 1_000_000_000;
        let (begun, ended) = (seconds(span.start_time_unix_nano), seconds(span.end_time_unix_nano));
        spans.push((span.name, begun, ended, span.status.map(|status| status.message)));
    }
    spans
}

fn span(name: &str, begun: u64, ended: u64, error: Option<&str>) -> (String, u64, u64, Option<String>) {
    (name.into(), begun, ended, error.map(str::to_owned))
}

#[tokio::test]
async fn a_trace_ends_once_the_maps_are_written() {
    let (mut telemetry, mut records) = telemetry();
    go_down(&mut telemetry, 10);
    for second in 12..15 {
        write(&mut telemetry, second, Some("no memory"));
    }
    write(&mut telemetry, 15, None);
    write(&mut telemetry, 20, None);
    let expected = [
        span("probe", 10, 11, Some("refused")),
        span("reconcile", 12, 13, Some("no memory")),
        span("reconcile", 15, 16, None),
        span("backend down", 10, 16, None),
    ];
    assert_eq!(told(&mut records), expected);
}

#[tokio::test]
async fn a_change_that_never_came_into_the_maps_says_so() {
    let (mut telemetry, mut records) = telemetry();
    go_down(&mut telemetry, 10);
    go_down(&mut telemetry, 20);
    write(&mut telemetry, 22, None);
    let spans = told(&mut records);
    let is_superseded = |error: &Option<String>| error.as_ref().is_some_and(|it| it.contains("next change"));
    let before = |(name, begun, _, error): &&(String, u64, u64, Option<String>)| {
        name == "backend down" && *begun == 10 && is_superseded(error)
    };
    assert_eq!(spans.iter().filter(before).count(), 1, "{spans:?}");
    assert!(spans.contains(&span("backend down", 20, 23, None)), "{spans:?}");
}

#[tokio::test]
async fn events_are_in_the_trace_of_whom_they_are_about() {
    let (mut telemetry, _records) = telemetry();
    go_down(&mut telemetry, 10);
    let source = Subject::Source("file /a".into());
    let change = telemetry.open.values().next().unwrap().clone();
    telemetry.open(source, Change { place: Place::root(), ..change.clone() });
    let of = |happening: Happening| telemetry.place_of(&happening);
    let down = |service| Happening::new(Kind::Backend, "went down").of(service).at(BACKEND);
    assert_eq!(of(down("web")), Some(change.place));
    assert_eq!(of(down("other")), None);
    assert_eq!(of(Happening::new(Kind::Backend, "each of 9 backends went down").of("web")), None);
    let says = |source: &str| of(Happening::new(Kind::Discovery, format!("{source} says 3 instances")));
    assert!(says("file /a").is_some_and(|place| place != change.place));
    assert_eq!(says("file /ab"), None);
}

#[tokio::test]
async fn events_are_told_unless_nobody_takes_them() {
    let what = Happening::new(Kind::Agent, "ended");
    let events = [Event { sequence: 7, time: at(1), what }];
    for has_logs in [true, false] {
        let (exporter, mut records) = Exporter::to_nobody();
        Telemetry::new(exporter, has_logs).log_all(&events);
        assert_eq!(matches!(records.try_recv(), Ok(Record::Log(_))), has_logs);
    }
}
