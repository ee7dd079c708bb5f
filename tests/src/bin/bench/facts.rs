//! What the kernel says about a program.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::programs::{ProgramInfo, Xdp};
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
    Facts::new(name, &program.info()?, started.elapsed())
}

impl Facts {
    pub(crate) fn new(name: &str, info: &ProgramInfo, took: Duration) -> Result<Self> {
        let verified = info.verified_instruction_count();
        Ok(Self {
            program: name.to_owned(),
            verified_instructions: verified.context("the kernel counts no verified instructions (5.16)")?,
            machine_code: info.size_jitted(),
            load_milliseconds: took.as_secs_f64() * 1e3,
        })
    }
}
