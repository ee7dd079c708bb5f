//! The phases, in their order.
//!
//! Invariant: a phase begins where the one before ended, so that every request belongs to exactly one.

use std::time::{Duration, Instant};

use anyhow::Result;
use mesh_tests::{Downloads, Failure, Progress, wait};

use crate::phase::Phase;
use crate::screen::Screen;
use crate::stage::{FALL, INTERVAL, PROBE_TIMEOUT, Stage, WEIGHTS};
use crate::tally::{BACKENDS, expect};

/// Requests that a spread is judged by.
const SAMPLE: u64 = 600;

/// For that many requests, at worst.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is killed: the one with half of the traffic.
const KILLED: usize = 2;

/// Who is drained.
const DRAINED: usize = 0;

/// Downloads under way during the drain, from each service. That none of them is at the drained backend
/// happens once in 10^7.
const DOWNLOADS: usize = 30;

/// How long they take.
const LENGTH: Duration = Duration::from_secs(6);

/// What a busy machine may add to the time that probes take.
const BUSY: Duration = Duration::from_secs(1);

/// The play under way.
pub(crate) struct Play<'a> {
    stage: &'a mut Stage,
    screen: &'a Screen,
    /// When the phase began.
    began: Instant,
}

type Scene<'a> = fn(&mut Play<'a>, &str) -> Result<Phase>;

impl<'a> Play<'a> {
    pub(crate) fn new(stage: &'a mut Stage, screen: &'a Screen) -> Self {
        Self { stage, screen, began: Instant::now() }
    }

    /// Plays all phases; one that breaks is the last.
    pub(crate) fn all(mut self) -> Result<Vec<Phase>> {
        let scenes: [(&str, Scene<'a>); 5] = [
            ("spread over 3 backends", Self::spread),
            ("backend-3 killed", Self::kill),
            ("backend-3 back", Self::revive),
            ("backend-1 drained", Self::drain),
            ("backend-1 undrained", Self::undrain),
        ];
        let mut phases = Vec::new();
        for (title, scene) in scenes {
            self.screen.title(title)?;
            match scene(&mut self, title) {
                Ok(phase) => phases.push(phase),
                Err(error) => {
                    let requests = self.stage.traffic.log().tally(self.began, Instant::now());
                    phases.push(Phase::broken(title, requests, &error));
                    break;
                }
            }
        }
        Ok(phases)
    }

    fn spread(&mut self, title: &str) -> Result<Phase> {
        let mut phase = self.watch(title, self.began)?;
        phase.expect_no_failure();
        phase.expect_spread(WEIGHTS);
        Ok(phase)
    }

    fn kill(&mut self, title: &str) -> Result<Phase> {
        let killed = Instant::now();
        self.stage.kill(KILLED)?;
        let noticed = self.stage.await_state(KILLED, "down", false)?;
        let took = noticed - killed;
        let interval = INTERVAL.as_millis();
        self.screen.say(&format!("  noticed after {took:.2?} by {FALL} probes, {interval} ms apart"))?;
        let mut phase = self.watch(title, noticed)?;
        let (early, late) = (phase.all.failed() - phase.settled.failed(), phase.settled.failed());
        self.screen.say(&format!("  {early} requests failed until it was noticed, {late} afterwards"))?;
        let limit = longest_notice() + BUSY;
        phase.expect(took <= limit, |_| format!("the probes took {took:.1?}, expected at most {limit:.1?}"));
        expect_only_its_share_failed(&mut phase);
        phase.expect_no_late_failure();
        phase.expect_spread(without(KILLED));
        Ok(phase)
    }

    fn revive(&mut self, title: &str) -> Result<Phase> {
        self.stage.restart(KILLED)?;
        let noticed = self.stage.await_state(KILLED, "up", true)?;
        self.return_to_all(title, noticed)
    }

    fn drain(&mut self, title: &str) -> Result<Phase> {
        let downloads = self.stage.download(DOWNLOADS, LENGTH)?;
        downloads.iter().try_for_each(|downloads| downloads.flowing(PATIENCE))?;
        self.stage.order("drain", DRAINED)?;
        let drained = self.stage.await_state(DRAINED, "draining", false)?;
        let staying = self.staying(&downloads)?;
        let cut = cut_off(downloads)?;
        self.screen
            .say(&format!("  {staying} downloads went on at it to their end; {} were cut off", cut.len()))?;
        let mut phase = self.watch(title, drained)?;
        phase.expect(staying > 0, |_| "no download was under way at the drained backend".into());
        let reason = cut.first().map_or("", |failure| &failure.reason);
        phase.expect(cut.is_empty(), |_| format!("{} downloads were cut off: {reason}", cut.len()));
        phase.expect_no_failure();
        phase.expect_spread(without(DRAINED));
        Ok(phase)
    }

    fn undrain(&mut self, title: &str) -> Result<Phase> {
        self.stage.order("undrain", DRAINED)?;
        let undrained = self.stage.await_state(DRAINED, "up", true)?;
        self.return_to_all(title, undrained)
    }

    fn return_to_all(&mut self, title: &str, since: Instant) -> Result<Phase> {
        let mut phase = self.watch(title, since)?;
        phase.expect_no_failure();
        phase.expect_spread(WEIGHTS);
        Ok(phase)
    }

    /// Lets enough requests begin after `settled`, and ends the phase.
    fn watch(&mut self, title: &str, settled: Instant) -> Result<Phase> {
        let log = self.stage.traffic.log();
        wait::eventually(&format!("{SAMPLE} more requests have ended"), PATIENCE, || {
            log.tally(settled, Instant::now()).requests() >= SAMPLE
        })?;
        let end = Instant::now();
        log.settle(end)?;
        let (all, settled) = (log.tally(self.began, end), log.tally(settled, end));
        self.began = end;
        Ok(Phase { title: title.into(), all, settled, wrong: Vec::new() })
    }

    /// How many downloads are still under way at the drained backend.
    fn staying(&self, downloads: &[Downloads]) -> Result<usize> {
        let name = self.stage.host(DRAINED)?.name();
        let stays = |progress: &Progress| progress.end.is_none() && progress.backend.as_deref() == Some(name);
        Ok(downloads.iter().flat_map(Downloads::progress).filter(stays).count())
    }
}

/// Waits until the downloads have ended; those that did not complete.
fn cut_off(downloads: Vec<Downloads>) -> Result<Vec<Failure>> {
    let summaries = downloads.into_iter().map(|downloads| downloads.finish(PATIENCE));
    Ok(summaries.collect::<Result<Vec<_>>>()?.into_iter().flat_map(|summary| summary.failures).collect())
}

/// While the death was unnoticed, no more requests failed than those that its weight sent there.
fn expect_only_its_share_failed(phase: &mut Phase) {
    let before = phase.all.requests() - phase.settled.requests();
    let failed = phase.all.failed() - phase.settled.failed();
    let (expected, margin) = expect(before, share(KILLED));
    phase.expect(failed as f64 <= expected + margin, |_| {
        format!("{failed} of {before} requests failed until the probes noticed, expected {expected:.0} ± {margin:.0}")
    });
}

/// The part of the requests that a backend's weight gets it.
fn share(backend: usize) -> f64 {
    let sum = |weights: [u16; BACKENDS]| weights.into_iter().map(f64::from).sum::<f64>();
    1.0 - sum(without(backend)) / sum(WEIGHTS)
}

/// How long probes take to notice a death: an interval varies by 10 %.
fn longest_notice() -> Duration {
    (INTERVAL * FALL).mul_f64(1.1) + PROBE_TIMEOUT
}

fn without(backend: usize) -> [u16; BACKENDS] {
    let mut weights = WEIGHTS;
    weights.iter_mut().skip(backend).take(1).for_each(|weight| *weight = 0);
    weights
}
