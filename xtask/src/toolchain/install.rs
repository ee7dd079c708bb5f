//! Building the linker.

use std::fs;

use anyhow::{Context as _, Result};

use super::{LINKER_VERSION, linker_directory, llvm_prefix};
use crate::{
    process::{run, say},
    workspace::Workspace,
};

/// Builds `bpf-linker` against the distribution's LLVM into the target directory (about a minute).
pub(crate) fn linker(workspace: &Workspace, llvm: u32) -> Result<()> {
    say(&format!("building bpf-linker {LINKER_VERSION} against LLVM {llvm}, once"));
    let scratch = workspace.target().join("tools/build");
    let mut install = workspace.cargo();
    install
        .env("LLVM_PREFIX", llvm_prefix(llvm))
        .env("CARGO_TARGET_DIR", &scratch)
        .args(["install", "bpf-linker", "--locked", "--force", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
        .arg(linker_directory(workspace, llvm));
    run(&mut install)?;
    fs::remove_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))
}
