//! The decapsulator without a network.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use mesh_common::abi::tunnel;
use mesh_common::outcome::DecapOutcome;
use mesh_userspace::decap::Decapsulator;

use super::run::{Verdict, moved, run, run_with};

/// Bytes of `struct __sk_buff` (include/uapi/linux/bpf.h).
const SK_BUFF: usize = 192;
/// Where its `gso_size` stands.
const GSO_SIZE: usize = 176;

/// The decapsulator's programs and maps.
pub struct DecapLab {
    /// The programs.
    pub decapsulator: Decapsulator,
}

impl DecapLab {
    /// Loads the programs for a host with these addresses, which serves these VIPs, and unwraps UDP at the usual ports.
    pub fn new(own: &[IpAddr], vips: &[IpNet]) -> Result<Self> {
        crate::preflight::check()?;
        let mut decapsulator = Decapsulator::load()?;
        decapsulator.set_own_addresses(&own.iter().copied().collect())?;
        decapsulator.set_vips(&vips.iter().copied().collect())?;
        decapsulator.set_ports(&[(6080, tunnel::GUE), (6081, tunnel::GENEVE)].into())?;
        decapsulator.xdp()?;
        decapsulator.tc()?;
        Ok(Self { decapsulator })
    }

    /// Runs a packet through XDP's program.
    pub fn run(&mut self, packet: &[u8]) -> Result<Verdict<DecapOutcome>> {
        self.judge(|decapsulator| run(decapsulator.xdp()?, packet, 0))
    }

    /// Runs a packet through tc's program. The kernel makes packets of a page at most for it.
    pub fn run_tc(&mut self, packet: &[u8]) -> Result<Verdict<DecapOutcome>> {
        self.judge(|decapsulator| run_with(decapsulator.tc()?, packet, None))
    }

    /// Runs a packet through tc's program as if the kernel had merged it from several that are no TCP.
    pub fn run_tc_merged(&mut self, packet: &[u8]) -> Result<Verdict<DecapOutcome>> {
        let context: [u8; SK_BUFF] = std::array::from_fn(|at| u8::from(at == GSO_SIZE));
        self.judge(|decapsulator| run_with(decapsulator.tc()?, packet, Some(&context)))
    }

    fn judge(
        &mut self,
        run: impl FnOnce(&mut Decapsulator) -> Result<(u32, Vec<u8>)>,
    ) -> Result<Verdict<DecapOutcome>> {
        let before = self.decapsulator.outcomes()?;
        let (action, packet) = run(&mut self.decapsulator)?;
        Ok(Verdict { action, packet, moved: moved(&before, &self.decapsulator.outcomes()?) })
    }
}
