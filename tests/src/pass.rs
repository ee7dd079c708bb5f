//! Preparing a cable for native XDP at a host's end: a veth delivers frames sent by a native program only to
//! a far end that runs one too. Generic receive offload at the far end would do for redirected frames alone.

use anyhow::{Context, Result};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};

use crate::host::FarEnd;

/// The program that passes every frame.
const PROGRAM: &str = "pass";

/// Attaches the program to the far end. Dropping what is returned detaches it.
pub(crate) fn attach(far_end: &FarEnd) -> Result<Ebpf> {
    let mut object = Ebpf::load(include_bytes_aligned!(env!("MESHLB_BENCH_OBJECT")))?;
    let program: &mut Xdp = object
        .program_mut(PROGRAM)
        .with_context(|| format!("the test object has no program `{PROGRAM}`: run `cargo xtask build`"))?
        .try_into()?;
    program.load()?;
    // Interface names and numbers mean those of the namespace that one is in.
    let attached = far_end.namespace.run(|| program.attach(&far_end.interface, XdpMode::Driver))?;
    attached.with_context(|| format!("cannot attach `{PROGRAM}` to {}", far_end.interface))?;
    Ok(object)
}
