//! What the kernel says about a program.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::programs::Xdp;
use mesh_userspace::dataplane::kernel::LoadedProgram;
use serde::Serialize;

/// About a loaded program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) program: String,
    /// Instructions that the verifier walked through.
    pub(crate) verified_instructions: u32,
    /// Bytes of machine code.
    pub(crate) machine_code: u32,
    /// Verification and compilation.
    pub(crate) load_milliseconds: f64,
}

/// Loads a program.
pub(crate) fn load(name: &str, program: &mut Xdp) -> Result<Facts> {
    let started = Instant::now();
    program.load().with_context(|| format!("the kernel refused `{name}`"))?;
    let took = started.elapsed();
    let info = program.info()?;
    Facts::new(name, info.verified_instruction_count(), info.size_jitted(), took)
}

impl Facts {
    /// About one of the balancer's programs.
    pub(crate) fn of(program: &LoadedProgram) -> Result<Self> {
        let &LoadedProgram { name, verified_instructions, machine_code, took } = program;
        Self::new(name, verified_instructions, machine_code, took)
    }

    fn new(name: &str, verified: Option<u32>, machine_code: u32, took: Duration) -> Result<Self> {
        Ok(Self {
            program: name.to_owned(),
            verified_instructions: verified.context("the kernel counts no verified instructions (5.16)")?,
            machine_code,
            load_milliseconds: took.as_secs_f64() * 1e3,
        })
    }
}
