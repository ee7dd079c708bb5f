//! One turn of one way: bytes up, requests, bytes down; and whether it was true.
//!
//! Invariant: a figure counts only if nothing went wrong and everything went where it should.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::balancer::Unit;
use super::iperf::{self, Direction};
use super::processors;
use super::stage::{Counts, Stage};
use super::way::Way;
use super::wrk::{self, Errors};

/// How long one turn takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) requests: Duration,
    /// In each direction.
    pub(crate) bulk: Duration,
}

/// Packets that may reach a balancer that is not on the way: neighbour discovery and the like.
const STRAY: u64 = 100;

/// The fewest packets of a connection that come by a balancer: SYN, ACK, request.
const PER_CONNECTION: u64 = 3;

/// The most bytes in one packet of a client's link.
const PER_PACKET: u64 = 1500;

/// What a turn gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) requests: Requests,
    pub(crate) up: Bulk,
    pub(crate) down: Bulk,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    pub(crate) per_second: f64,
    pub(crate) p50_microseconds: f64,
    pub(crate) p99_microseconds: f64,
    pub(crate) processor_seconds_per_10k: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    pub(crate) gigabits_per_second: f64,
    pub(crate) processor_seconds_per_gigabyte: f64,
}

/// What was seen over all turns of a way, right or wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) errors: Errors,
    /// By the balancer, in its unit.
    pub(crate) passed: u64,
    /// Connections at each backend's HTTP server.
    pub(crate) accepted: Vec<u64>,
}

/// Measures everything once.
pub(crate) fn take(stage: &Stage, length: Length, seen: &mut Seen) -> Result<Sample> {
    let up = bulk(stage, Direction::Up, length.bulk, seen).context("bytes to the backend")?;
    let requests = requests(stage, length.requests, seen).context("requests")?;
    let down = bulk(stage, Direction::Down, length.bulk, seen).context("bytes to the client")?;
    Ok(Sample { requests, up, down })
}

fn requests(stage: &Stage, time: Duration, seen: &mut Seen) -> Result<Requests> {
    let before = stage.count()?;
    let (spent, counted) =
        spending(|| wrk::ask(stage.topology.client(), stage.web(), time, &stage.topology.directory()))?;
    let moved = stage.count()?.since(&before);
    seen.requests += counted.requests;
    seen.errors.add(&counted.errors);
    seen.add(&moved);
    ensure!(counted.errors == Errors::default(), "{:?}", counted.errors);
    ensure!(counted.requests > 0, "no request was answered");
    check_way(stage, &moved, counted.requests, counted.requests * PER_CONNECTION)?;
    check_backends(&moved, counted.requests)?;
    let requests = counted.requests as f64;
    Ok(Requests {
        per_second: requests * 1e6 / counted.microseconds as f64,
        p50_microseconds: counted.p50 as f64,
        p99_microseconds: counted.p99 as f64,
        processor_seconds_per_10k: spent.as_secs_f64() * 1e4 / requests,
    })
}

fn bulk(stage: &Stage, direction: Direction, time: Duration, seen: &mut Seen) -> Result<Bulk> {
    let before = stage.count()?;
    let (spent, moved) = spending(|| {
        iperf::transfer(stage.topology.client(), stage.bulk()?, direction, time, &stage.topology.directory())
    })?;
    let passed = stage.count()?.since(&before);
    seen.add(&passed);
    // What the backend sends may return on another path; what the client sends comes by.
    let packets = match direction {
        Direction::Up => moved.bytes / PER_PACKET,
        Direction::Down => moved.connections * PER_CONNECTION,
    };
    check_way(stage, &passed, moved.connections, packets)?;
    Ok(Bulk {
        gigabits_per_second: moved.bits_per_second / 1e9,
        processor_seconds_per_gigabyte: spent.as_secs_f64() * 1e9 / moved.bytes as f64,
    })
}

/// What the whole machine worked meanwhile.
fn spending<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let before = processors::worked()?;
    let result = work()?;
    Ok((processors::worked()?.saturating_sub(before), result))
}

/// Whether a balancer counted at least what must have gone through it, or nothing where there is none.
fn check_way(stage: &Stage, moved: &Counts, connections: u64, packets: u64) -> Result<()> {
    let passed = moved.passed;
    if stage.way == Way::Direct {
        ensure!(passed < STRAY, "{passed} packets came to the balancer, which is not on the way");
        return Ok(());
    }
    let (unit, least) = match stage.unit() {
        Unit::Packets => ("packets", packets),
        Unit::Connections => ("connections", connections),
    };
    ensure!(passed >= least, "the balancer has seen {passed} {unit}, less than {least}");
    Ok(())
}

/// Whether every backend had its part, and all of them together all requests.
fn check_backends(moved: &Counts, requests: u64) -> Result<()> {
    let accepted = &moved.accepted;
    let fair = requests / u64::try_from(accepted.len())?.max(1);
    ensure!(
        accepted.iter().sum::<u64>() >= requests && accepted.iter().all(|part| *part >= fair / 2),
        "the backends accepted {accepted:?} connections of {requests}"
    );
    Ok(())
}

impl Counts {
    fn since(&self, before: &Self) -> Self {
        let pairs = self.accepted.iter().zip(&before.accepted);
        let accepted = pairs.map(|(now, before)| now.saturating_sub(*before)).collect();
        Self { passed: self.passed.saturating_sub(before.passed), accepted }
    }
}

impl Seen {
    fn add(&mut self, moved: &Counts) {
        self.passed += moved.passed;
        self.accepted.resize(moved.accepted.len(), 0);
        self.accepted.iter_mut().zip(&moved.accepted).for_each(|(sum, part)| *sum += part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(parts: [u64; 3]) -> Counts {
        Counts { passed: 0, accepted: parts.to_vec() }
    }

    #[test]
    fn a_backend_that_gets_less_than_half_of_its_part_is_an_error() {
        assert!(check_backends(&accepted([100, 100, 100]), 300).is_ok());
        assert!(check_backends(&accepted([125, 125, 50]), 300).is_ok());
        assert!(check_backends(&accepted([130, 130, 49]), 300).is_err());
    }

    #[test]
    fn a_connection_that_no_backend_has_seen_is_an_error() {
        assert!(check_backends(&accepted([100, 100, 99]), 300).is_err());
    }
}
