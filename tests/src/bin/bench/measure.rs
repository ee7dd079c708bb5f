//! Rounds of measurements, and what is made of them.
//!
//! Invariant: in each round every subject has its turn, so that whatever else the machine does meets them all alike.

use std::time::Duration;

use anyhow::Result;
use aya::programs::ProgramFd;
use mesh_common::bench::Traffic;

use crate::wrapper::{Run, Wrapper};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Of one subject in one round: long, so that it pays little for fetching its tables into the caches again.
    pub(crate) turn: Duration,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 15, turn: Duration::from_millis(40) };
    pub(crate) const QUICK: Self = Self { rounds: 5, turn: Duration::from_millis(8) };
}

/// A program with the traffic that it is measured with.
pub(crate) struct Subject {
    program: ProgramFd,
    traffic: Traffic,
    /// Bytes that it adds to a packet.
    grown: u32,
    packets: u32,
    samples: Vec<f64>,
}

impl Subject {
    pub(crate) const fn new(program: ProgramFd, traffic: Traffic, grown: u32) -> Self {
        Self { program, traffic, grown, packets: 0, samples: Vec::new() }
    }

    /// Plays packets without measuring.
    pub(crate) fn play(&mut self, wrapper: &mut Wrapper, packets: u32) -> Result<Run> {
        wrapper.play(&self.program, &mut self.traffic, self.grown, packets)
    }

    /// Goes through the flows once, and finds out how many packets a turn takes.
    pub(crate) fn warm(&mut self, wrapper: &mut Wrapper, effort: Effort) -> Result<u32> {
        const LEAST: u32 = 10_000;
        /// Enough to fill every table of the cases.
        const MOST: u64 = 2_000_000;
        let flows = u32::try_from(self.traffic.flows.min(MOST))?.max(LEAST);
        self.play(wrapper, flows)?;
        let each = self.play(wrapper, LEAST)?.each();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        let fits = (effort.turn.as_secs_f64() * 1e9 / each) as u32;
        self.packets = fits.clamp(LEAST, 10_000_000);
        Ok(flows + LEAST)
    }

    /// One turn: first the caches get back what the turns of others took, then it counts. Returns how many packets
    /// were played.
    pub(crate) fn measure(&mut self, wrapper: &mut Wrapper) -> Result<u32> {
        let lead_in = self.play(wrapper, self.packets / 2)?;
        let run = self.play(wrapper, self.packets)?;
        self.samples.push(run.each());
        Ok(lead_in.packets + run.packets)
    }

    /// Nanoseconds per packet beyond those of a program that does nothing: the median over the rounds.
    pub(crate) fn beyond(&self, null: &Self) -> f64 {
        let pairs = self.samples.iter().zip(&null.samples);
        let mut differences: Vec<f64> = pairs.map(|(sample, null)| sample - null).collect();
        differences.sort_by(f64::total_cmp);
        differences.get(differences.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
