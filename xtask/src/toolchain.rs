//! Which compiler and linker make the kernel programs.
//!
//! The choice is a pure function of probed facts; installing happens in steps, and after each the facts are
//! probed anew, so that no step trusts the one before it.

mod choice;
mod facts;
mod install;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

pub(crate) use self::choice::Toolchain;
use self::choice::{Step, next_step};
use crate::{process::say, workspace::Workspace};

/// The linker that makes kernel programs of LLVM bitcode. 0.13.0 knows LLVM 21 to 23.
const LINKER_VERSION: &str = "0.13.0";

/// The distribution's compiler: named by its path, since rustup's comes first in `PATH`.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// What the kernel programs are compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A toolchain that is there, installed if need be.
///
/// # Errors
/// When it cannot be installed; the error says what to run.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Toolchain> {
    let mut done = None;
    loop {
        let step = next_step(&facts::probe(workspace));
        if done.as_ref() == Some(&step) {
            bail!("{step} reported success, but what it should have brought is still missing");
        }
        match &step {
            Step::Use(toolchain) => {
                say(&format!("kernel programs are built with {toolchain}"));
                return Ok(*toolchain);
            }
            Step::Install(packages) => crate::apt::install(packages)?,
            Step::BuildLinker { llvm } => install::linker(workspace, *llvm)?,
            Step::Advise(advice) => bail!("{advice}"),
        }
        done = Some(step);
    }
}

/// Where the linker that is built against the distribution's LLVM is installed: the path names all that it
/// depends on, so that being there is being right.
pub(crate) fn linker_directory(workspace: &Workspace, llvm: u32) -> PathBuf {
    workspace.tools().join(format!("bpf-linker-{LINKER_VERSION}-llvm-{llvm}"))
}

fn llvm_prefix(llvm: u32) -> PathBuf {
    Path::new("/usr/lib").join(format!("llvm-{llvm}"))
}
