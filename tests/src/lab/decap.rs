//! The decapsulator without a network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use mesh_common::outcome::DecapOutcome;
use mesh_userspace::decap::Decapsulator;

use super::run::{Verdict, moved, run};

/// The decapsulator's program and maps.
pub struct DecapLab {
    /// The program.
    pub decapsulator: Decapsulator,
}

impl DecapLab {
    /// Loads the program for a host with these addresses, which serves these VIPs.
    pub fn new(own: &[IpAddr], vips: &[IpAddr]) -> Result<Self> {
        crate::preflight::check()?;
        let mut decapsulator = Decapsulator::load()?;
        decapsulator.set_own_addresses(&own.iter().copied().collect::<BTreeSet<_>>())?;
        decapsulator.set_vips(&vips.iter().map(|vip| (*vip).into()).collect())?;
        Ok(Self { decapsulator })
    }

    /// Runs a packet through the program.
    pub fn run(&mut self, packet: &[u8]) -> Result<Verdict<DecapOutcome>> {
        let before = self.decapsulator.outcomes()?;
        let (action, packet) = run(self.decapsulator.program()?, packet, 0)?;
        Ok(Verdict { action, packet, moved: moved(&before, &self.decapsulator.outcomes()?) })
    }
}
