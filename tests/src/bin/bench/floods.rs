//! `cargo xtask bench floods`: what becomes of honest clients while somebody floods the service, through MeshLB and through
//! the kernel's own translation, on the same hosts in network namespaces.

use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use mesh_tests::flood::{Flood, Of};
use mesh_tests::{Client, LoggedChild};
use serde::Serialize;
use serde_json::Value;

use crate::system::{Stage, Way};
use crate::{Output, report};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Packets of a flood in a second; 0: as many as one processor sends
    #[arg(long, default_value_t = 0)]
    pace: u32,
    /// Seconds of each flood
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=60))]
    seconds: u32,
    /// For people or for programs
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Who is flooded.
const WAYS: [Way; 3] = [Way::MeshlbNat, Way::MeshlbL2, Way::Nftables];

/// After so long an honest client gives up.
const PATIENCE: Duration = Duration::from_secs(3);

/// What iperf3 takes beyond its time, and what passes before it sends.
const GRACE: Duration = Duration::from_secs(15);

/// What became of honest clients.
#[derive(Debug, Serialize)]
struct Row {
    way: Way,
    /// What it was flooded with.
    flood: &'static str,
    /// Packets of it in a second.
    packets_per_second: u64,
    /// New connections that were tried, and that were answered.
    tried: u32,
    answered: u32,
    /// A transfer that had begun before: its rate in the flood, to that before.
    rate: f64,
}

/// Measures all ways and prints what became of their clients.
pub(crate) fn perform(arguments: &Arguments) -> Result<()> {
    let mut rows = Vec::new();
    for way in WAYS {
        for (of, flood) in [(Of::Syns, "SYNs"), (Of::Datagrams, "datagrams")] {
            rows.push(measure(way, of, flood, arguments).with_context(|| way.title())?);
        }
    }
    let text = match arguments.output {
        Output::Table => table(&rows),
        Output::Json => serde_json::to_string_pretty(&rows)?,
    };
    Ok(writeln!(stdout(), "{text}")?)
}

fn measure(way: Way, of: Of, flood: &'static str, arguments: &Arguments) -> Result<Row> {
    let stage = Stage::build(way, false)?;
    let (client, time) = (stage.topology.client(), Duration::from_secs(arguments.seconds.into()));
    let transfer = transfer(&stage, time * 2)?;
    std::thread::sleep(time);
    let pace = (arguments.pace > 0).then_some(arguments.pace);
    let (started, service) = (Instant::now(), stage.web());
    let sent = Flood::start(client, of, service, pace)?;
    let (tried, answered) = ask(&Client::with_timeout(client, PATIENCE)?, service, time);
    let (packets, took) = (sent.end()?, started.elapsed());
    let printed = transfer.finish(time + GRACE)?;
    let rate = rate(&printed, time).with_context(|| format!("iperf3 printed {printed}"))?;
    let packets_per_second = packets * 1000 / u64::try_from(took.as_millis())?.max(1);
    Ok(Row { way, flood, packets_per_second, tried, answered, rate })
}

/// Begins to download as fast as goes.
fn transfer(stage: &Stage, time: Duration) -> Result<LoggedChild> {
    let server = stage.bulk()?;
    let mut command = stage.topology.client().command("iperf3");
    command.args(["--client", &server.ip().to_string(), "--port", &server.port().to_string(), "--json"]);
    command.args(["--reverse", "--bitrate", "200M", "--time", &time.as_secs().to_string()]);
    LoggedChild::spawn("iperf3", command, stage.topology.directory().join("iperf3.log"))
}

/// Connects anew for each request.
fn ask(client: &Client, service: SocketAddr, time: Duration) -> (u32, u32) {
    let started = Instant::now();
    let (mut tried, mut answered) = (0, 0);
    while started.elapsed() < time {
        tried += 1;
        answered += u32::from(client.get(service).is_ok_and(|reply| reply.status == 200));
    }
    (tried, answered)
}

/// The rate of the second half of a transfer to that of the first, without the seconds at the ends.
fn rate(printed: &str, half: Duration) -> Option<f64> {
    let printed: Value = serde_json::from_str(printed).ok()?;
    let intervals = printed.get("intervals")?.as_array()?;
    let number = |interval: &Value, name: &str| interval.pointer(&format!("/sum/{name}"))?.as_f64();
    let mean = |from: f64, to: f64| {
        let within =
            intervals.iter().filter(|it| number(it, "start").is_some_and(|at| at >= from && at < to));
        let rates: Vec<f64> = within.filter_map(|it| number(it, "bits_per_second")).collect();
        (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)
    };
    let half = half.as_secs_f64();
    Some(mean(half + 0.5, half * 2.0 - 1.5)? / mean(0.5, half - 1.5)?)
}

fn table(rows: &[Row]) -> String {
    let header = ["way", "flood", "packets/s", "new connections", "answered", "download, to before"];
    let mut table = report::table(header, 2);
    for row in rows {
        let share = f64::from(row.answered) * 100.0 / f64::from(row.tried.max(1));
        table.add_row([
            row.way.title().to_owned(),
            row.flood.to_owned(),
            row.packets_per_second.to_string(),
            row.tried.to_string(),
            format!("{share:.1} %"),
            format!("{:.0} %", row.rate * 100.0),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_a_transfer_are_compared() {
        let interval =
            |start: f64, rate: f64| serde_json::json!({ "sum": { "start": start, "bits_per_second": rate } });
        let rates = [10.0, 100.0, 100.0, 10.0, 10.0, 50.0, 50.0, 10.0];
        let intervals: Vec<_> = (0..).zip(rates).map(|(at, rate)| interval(f64::from(at), rate)).collect();
        let printed = serde_json::json!({ "intervals": intervals }).to_string();
        assert_eq!(rate(&printed, Duration::from_secs(4)), Some(0.5));
        assert_eq!(rate("{}", Duration::from_secs(4)), None);
    }
}
