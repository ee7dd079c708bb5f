//! `meshlb status`: what is wrong first, then how it goes.

use std::collections::BTreeMap;

use crate::api::types::{
    BackendDown, FlowUse, InterfaceView, ProgramView, ServiceHealth, SourceView, Status,
};
use crate::cli::format::{age, count, percent};
use crate::cli::table::Column::{Number, Text};
use crate::cli::table::{pairs, table};

/// A short screen.
pub(in crate::cli) fn status(status: &Status) -> String {
    let parts = [
        head(status),
        problems(status),
        facts(status),
        services(&status.services),
        down(&status.backends_down),
        sources(&status.discovery),
        outcomes(status),
        quic(status),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn head(s: &Status) -> String {
    let ready = if s.ready { "ready" } else { "NOT READY" };
    format!("meshlb {}: {ready}, up {}", s.version, age(s.uptime_seconds))
}

fn problems(s: &Status) -> String {
    let own = env!("CARGO_PKG_VERSION");
    let version = (s.version != own).then(|| format!("this command is version {own}, the agent is not"));
    let lines: Vec<String> =
        s.problems.iter().chain(&version).map(|p| format!("  {}", p.replace('\n', "\n    "))).collect();
    if lines.is_empty() { "no problems".to_owned() } else { format!("problems:\n{}", lines.join("\n")) }
}

fn facts(s: &Status) -> String {
    let interfaces = s.interfaces.iter().map(|i| ["interface".to_owned(), interface(i)]);
    let programs = s.programs.iter().map(|p| ["program".to_owned(), program(p)]);
    let tables = ["tables".to_owned(), tables(s.slots_changing)];
    let connections = (s.connections.used > 0).then(|| ["connections".to_owned(), flows(s.connections)]);
    let flows = ["flows".to_owned(), flows(s.flows)];
    pairs(interfaces.chain(programs).chain([tables, flows]).chain(connections).collect())
}

fn interface(i: &InterfaceView) -> String {
    let reason = i.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{} {}{reason}", i.name, i.mode)
}

fn program(p: &ProgramView) -> String {
    format!(
        "{}: {} instructions verified, loaded in {:.0} ms",
        p.name, p.verified_instructions, p.load_time_ms
    )
}

fn tables(changing: u64) -> String {
    if changing == 0 { "at rest".to_owned() } else { format!("{} slots change over", count(changing)) }
}

fn down(backends: &[BackendDown]) -> String {
    if backends.is_empty() {
        return String::new();
    }
    let columns = [Text("BACKEND DOWN"), Text("SERVICE"), Number("FOR"), Text("LAST ERROR")];
    let row = |b: &BackendDown| {
        vec![b.address.clone(), b.service.clone(), age(b.since_seconds), b.reason.clone().unwrap_or_default()]
    };
    let rows = table(&columns, backends.iter().map(row).collect());
    format!("{rows}\nwhat is wrong with them: meshlb preflight --config FILE --probe")
}

fn flows(f: FlowUse) -> String {
    format!("{} of {} entries ({})", f.used, f.capacity, percent(f.used, f.capacity))
}

fn services(services: &[ServiceHealth]) -> String {
    let columns = [Text("SERVICE"), Text("STATE"), Number("UP"), Number("DOWN"), Number("DRAINING")];
    let row = |s: &ServiceHealth| {
        vec![
            s.service.clone(),
            state(s).to_owned(),
            s.up.to_string(),
            s.down.to_string(),
            s.draining.to_string(),
        ]
    };
    table(&columns, services.iter().map(row).collect())
}

fn sources(sources: &[SourceView]) -> String {
    let columns = [Text("SOURCE"), Text("STATE"), Number("INSTANCES"), Number("AGE")];
    let row = |s: &SourceView| {
        let age = s.age_seconds.map(age).unwrap_or_default();
        vec![s.source.clone(), s.state.clone(), s.instances.to_string(), age]
    };
    if sources.is_empty() { String::new() } else { table(&columns, sources.iter().map(row).collect()) }
}

/// What a service is, in a word.
pub(in crate::cli) fn state(s: &ServiceHealth) -> &'static str {
    match s {
        ServiceHealth { panic: true, .. } => "panic",
        ServiceHealth { up: 0, .. } => "down",
        ServiceHealth { down: 1.., .. } => "degraded",
        ServiceHealth { .. } => "ok",
    }
}

fn outcomes(s: &Status) -> String {
    packets("OUTCOME", &s.outcomes)
}

fn quic(s: &Status) -> String {
    packets("QUIC BY", &s.quic.routed)
}

/// Those that happened; the others are in the JSON.
fn packets(what: &'static str, counts: &BTreeMap<String, u64>) -> String {
    let seen = counts.iter().filter(|(_, n)| **n > 0);
    let rows: Vec<_> = seen.map(|(name, n)| vec![name.clone(), count(*n)]).collect();
    if rows.is_empty() { String::new() } else { table(&[Text(what), Number("PACKETS")], rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::QuicPackets;

    fn calm() -> Status {
        let health = |service: &str, up, down, draining, panic| ServiceHealth {
            service: service.into(),
            up,
            down,
            draining,
            panic,
        };
        Status {
            watched: false,
            version: env!("CARGO_PKG_VERSION").into(),
            ready: true,
            uptime_seconds: 11_520.0,
            interfaces: vec![
                InterfaceView { name: "eth0".into(), ifindex: 2, mode: "native".into(), reason: None },
                InterfaceView {
                    name: "eth1".into(),
                    ifindex: 3,
                    mode: "generic".into(),
                    reason: Some("the driver has no native XDP".into()),
                },
            ],
            services: vec![
                health("web", 3, 0, 0, false),
                health("api", 2, 0, 1, false),
                health("dns", 1, 1, 0, false),
                health("ntp", 0, 2, 0, false),
                health("ssh", 1, 2, 0, true),
            ],
            problems: vec![],
            programs: vec![ProgramView {
                name: "meshlb".into(),
                verified_instructions: 43_210,
                load_time_ms: 85.4,
            }],
            flows: FlowUse { used: 1234, capacity: 524_288 },
            connections: FlowUse { used: 7, capacity: 131_072 },
            outcomes: BTreeMap::from([
                ("forwarded".into(), 1_234_567),
                ("no_backend".into(), 0),
                ("not_a_service".into(), 789),
            ]),
            quic: QuicPackets {
                routed: BTreeMap::from([("connection_id".into(), 5678), ("malformed".into(), 0)]),
                ..QuicPackets::default()
            },
            backends_down: vec![BackendDown {
                service: "dns".into(),
                address: "10.0.0.7".into(),
                since_seconds: 300.0,
                reason: Some("connection refused".into()),
            }],
            slots_changing: 0,
            discovery: vec![
                SourceView {
                    source: "file /etc/meshlb/web.toml".into(),
                    state: "live".into(),
                    instances: 3,
                    age_seconds: Some(12.0),
                    ..SourceView::default()
                },
                SourceView { source: "file /b".into(), state: "silent".into(), ..SourceView::default() },
            ],
        }
    }

    #[test]
    fn a_calm_agent_fits_one_screen() {
        let expected = "\
meshlb 0.1.0: ready, up 3h12m

no problems

interface    eth0 native
interface    eth1 generic (the driver has no native XDP)
program      meshlb: 43210 instructions verified, loaded in 85 ms
tables       at rest
flows        1234 of 524288 entries (<1%)
connections  7 of 131072 entries (<1%)

SERVICE  STATE     UP  DOWN  DRAINING
web      ok         3     0         0
api      ok         2     0         1
dns      degraded   1     1         0
ntp      down       0     2         0
ssh      panic      1     2         0

BACKEND DOWN  SERVICE  FOR  LAST ERROR
10.0.0.7      dns       5m  connection refused
what is wrong with them: meshlb preflight --config FILE --probe

SOURCE                     STATE   INSTANCES  AGE
file /etc/meshlb/web.toml  live            3  12s
file /b                    silent          0

OUTCOME        PACKETS
forwarded         1.2M
not_a_service      789

QUIC BY        PACKETS
connection_id     5678";
        assert_eq!(status(&calm()).replace(env!("CARGO_PKG_VERSION"), "0.1.0"), expected);
    }

    #[test]
    fn problems_come_first() {
        let troubled = Status {
            version: "0.0.1".into(),
            ready: false,
            problems: vec!["eth9 is gone".into(), "two\nlines".into()],
            ..calm()
        };
        let text = status(&troubled);
        let expected = "meshlb 0.0.1: NOT READY, up 3h12m\n\nproblems:\n  eth9 is gone\n  two\n    lines\n  this command is";
        assert!(text.starts_with(expected), "{text}");
    }
}
