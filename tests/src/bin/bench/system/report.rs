//! What comes out: for people and for programs.

use std::fs;
use std::thread::available_parallelism;

use anyhow::Result;
use serde::Serialize;

use super::balancer::Unit;
use super::turn::{Bulk, Requests, Sample, Seen};
use super::way::Way;
use super::wrk::Errors;
use crate::report::table;

/// The output of `-o json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    kernel: String,
    processors: usize,
    rounds: usize,
    ways: Vec<Row>,
}

/// One way; medians over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    way: Way,
    /// Why the figures are missing; the counts below are of all rounds up to there.
    failure: Option<String>,
    figures: Option<Figures>,
    requests: u64,
    errors: Errors,
    passed: u64,
    passed_unit: Unit,
    accepted_by_backends: Vec<u64>,
}

/// Medians; what processors did is of the whole machine, client and backends included.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    requests_per_second: f64,
    latency_p50_microseconds: f64,
    latency_p99_microseconds: f64,
    processor_seconds_per_10k_connections: f64,
    up: BulkFigures,
    down: BulkFigures,
    /// How much more than the direct way's; missing where that failed.
    beyond_direct: Option<Processor>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct BulkFigures {
    gigabits_per_second: f64,
    processor_seconds_per_gigabyte: f64,
}

/// Seconds of processors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Processor {
    per_10k_connections: f64,
    per_gigabyte_up: f64,
    per_gigabyte_down: f64,
}

impl Report {
    pub(crate) fn new(rounds: usize, mut ways: Vec<Row>) -> Result<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let direct = ways.iter().find(|row| row.way == Way::Direct).and_then(|row| row.figures);
        if let Some(direct) = direct.map(|figures| figures.processor()) {
            for figures in ways.iter_mut().filter_map(|row| row.figures.as_mut()) {
                figures.beyond_direct = Some(figures.processor().beyond(direct));
            }
        }
        Ok(Self { kernel, processors: available_parallelism()?.get(), rounds, ways })
    }

    pub(crate) fn failures(&self) -> usize {
        self.ways.iter().filter(|row| row.failure.is_some()).count()
    }

    pub(crate) fn table(&self) -> String {
        let Self { kernel, processors, rounds, .. } = self;
        let about = format!("Linux {kernel}, {processors} processors; medians of {rounds} rounds");
        let failures = self.ways.iter().filter_map(|row| Some((row.way.title(), row.failure.as_ref()?)));
        let failures: String =
            failures.map(|(way, failure)| format!("\n\n{way} failed: {failure}")).collect();
        format!("{about}\n\n{}\n\n{}{failures}", self.requests(), self.bulk())
    }

    fn requests(&self) -> String {
        let header = ["WAY", "REQUESTS/S", "P50 (MS)", "P99 (MS)", "CPU S/10K", "BEYOND DIRECT", "ERRORS"];
        let mut table = table(header, 1);
        for row in &self.ways {
            let mut cells = vec![row.way.title().to_owned()];
            cells.extend(row.cells(|figures| {
                [
                    format!("{:.0}", figures.requests_per_second),
                    format!("{:.2}", figures.latency_p50_microseconds / 1e3),
                    format!("{:.2}", figures.latency_p99_microseconds / 1e3),
                    format!("{:.2}", figures.processor_seconds_per_10k_connections),
                    beyond(figures, |processor| processor.per_10k_connections),
                ]
            }));
            cells.push(row.errors.total().to_string());
            table.add_row(cells);
        }
        table.trim_fmt()
    }

    fn bulk(&self) -> String {
        let header =
            ["WAY", "UP GBIT/S", "CPU S/GB", "BEYOND DIRECT", "DOWN GBIT/S", "CPU S/GB", "BEYOND DIRECT"];
        let mut table = table(header, 1);
        for row in &self.ways {
            let mut cells = vec![row.way.title().to_owned()];
            cells.extend(row.cells(|figures| {
                [
                    format!("{:.2}", figures.up.gigabits_per_second),
                    format!("{:.2}", figures.up.processor_seconds_per_gigabyte),
                    beyond(figures, |processor| processor.per_gigabyte_up),
                    format!("{:.2}", figures.down.gigabits_per_second),
                    format!("{:.2}", figures.down.processor_seconds_per_gigabyte),
                    beyond(figures, |processor| processor.per_gigabyte_down),
                ]
            }));
            table.add_row(cells);
        }
        table.trim_fmt()
    }
}

fn beyond(figures: &Figures, part: impl Fn(&Processor) -> f64) -> String {
    figures.beyond_direct.as_ref().map_or_else(|| "?".into(), |processor| format!("{:+.2}", part(processor)))
}

impl Row {
    /// The row of a way: figures only if no turn failed.
    pub(crate) fn new(way: Way, unit: Unit, seen: Seen, samples: &[Sample], failure: Option<String>) -> Self {
        Self {
            way,
            figures: if failure.is_none() { Figures::medians(samples) } else { None },
            failure,
            requests: seen.requests,
            errors: seen.errors,
            passed: seen.passed,
            passed_unit: unit,
            accepted_by_backends: seen.accepted,
        }
    }

    /// The cells of its figures, or as many words.
    fn cells<const N: usize>(&self, of: impl Fn(&Figures) -> [String; N]) -> [String; N] {
        self.figures.as_ref().map_or_else(|| std::array::from_fn(|_| "failed".into()), of)
    }
}

impl Figures {
    fn medians(samples: &[Sample]) -> Option<Self> {
        let requests =
            |part: fn(&Requests) -> f64| median(samples.iter().map(|s| part(&s.requests)).collect());
        let bulk = |direction: fn(&Sample) -> &Bulk| {
            let part = |part: fn(&Bulk) -> f64| median(samples.iter().map(|s| part(direction(s))).collect());
            Some(BulkFigures {
                gigabits_per_second: part(|bulk| bulk.gigabits_per_second)?,
                processor_seconds_per_gigabyte: part(|bulk| bulk.processor_seconds_per_gigabyte)?,
            })
        };
        Some(Self {
            requests_per_second: requests(|requests| requests.per_second)?,
            latency_p50_microseconds: requests(|requests| requests.p50_microseconds)?,
            latency_p99_microseconds: requests(|requests| requests.p99_microseconds)?,
            processor_seconds_per_10k_connections: requests(|requests| requests.processor_seconds_per_10k)?,
            up: bulk(|sample| &sample.up)?,
            down: bulk(|sample| &sample.down)?,
            beyond_direct: None,
        })
    }

    const fn processor(&self) -> Processor {
        Processor {
            per_10k_connections: self.processor_seconds_per_10k_connections,
            per_gigabyte_up: self.up.processor_seconds_per_gigabyte,
            per_gigabyte_down: self.down.processor_seconds_per_gigabyte,
        }
    }
}

impl Processor {
    fn beyond(self, other: Self) -> Self {
        Self {
            per_10k_connections: self.per_10k_connections - other.per_10k_connections,
            per_gigabyte_up: self.per_gigabyte_up - other.per_gigabyte_up,
            per_gigabyte_down: self.per_gigabyte_down - other.per_gigabyte_down,
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(factor: f64) -> Sample {
        let bulk = Bulk { gigabits_per_second: factor, processor_seconds_per_gigabyte: factor };
        let requests = Requests {
            per_second: 100.0 * factor,
            p50_microseconds: factor,
            p99_microseconds: factor,
            processor_seconds_per_10k: factor,
        };
        Sample { requests, up: bulk, down: bulk }
    }

    fn row(way: Way, factors: &[f64], failure: Option<&str>) -> Row {
        let samples: Vec<Sample> = factors.iter().copied().map(sample).collect();
        Row::new(way, Unit::Packets, Seen::default(), &samples, failure.map(Into::into))
    }

    #[test]
    fn figures_are_medians_and_differences_to_the_direct_way() {
        let ways = vec![row(Way::Direct, &[3.0, 1.0, 2.0], None), row(Way::MeshlbL2, &[5.0, 6.0, 4.0], None)];
        let report = Report::new(3, ways).unwrap();
        let figures = report.ways.iter().map(|row| row.figures.unwrap()).collect::<Vec<_>>();
        let rates: Vec<f64> = figures.iter().map(|figures| figures.requests_per_second).collect();
        assert_eq!(rates, [200.0, 500.0]);
        let beyond: Vec<_> =
            figures.iter().map(|figures| figures.beyond_direct.unwrap().per_gigabyte_up).collect();
        assert_eq!(beyond, [0.0, 3.0]);
    }

    #[test]
    fn a_way_that_failed_has_its_reason_instead_of_figures() {
        let ways = vec![row(Way::Direct, &[1.0], Some("no route")), row(Way::Haproxy, &[2.0], None)];
        let report = Report::new(1, ways).unwrap();
        assert_eq!(report.failures(), 1);
        let table = report.table();
        assert!(table.contains("direct, no balancer failed: no route") && table.contains('?'), "{table}");
    }
}
