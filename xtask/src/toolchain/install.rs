//! Building the linker.

use std::fs;

use anyhow::{Context as _, Result};

use super::{LINKER_VERSION, linker_directory, llvm_prefix};
use crate::{
    process::{path_with, run, say},
    workspace::{Workspace, cargo},
};

/// Builds `bpf-linker` against the distribution's LLVM into the target directory (about a minute).
pub(crate) fn linker(workspace: &Workspace, llvm: u32) -> Result<()> {
    say(&format!("building bpf-linker {LINKER_VERSION} against LLVM {llvm}, once"));
    let scratch = workspace.tools().join("build");
    let directory = linker_directory(workspace, llvm);
    let mut install = cargo();
    install
        .env("LLVM_PREFIX", llvm_prefix(llvm))
        .env("CARGO_TARGET_DIR", &scratch)
        .args(["install", "bpf-linker", "--locked", "--force", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
        .arg(&directory)
        // Else cargo asks to put it there.
        .env("PATH", path_with(&directory.join("bin"))?);
    run(&mut install)?;
    fs::remove_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))
}
