//! What is shipped.
//!
//! Invariant: the same sources and toolchain give the same bytes, wherever they are and whenever they are built.

mod binary;
mod clean_root;
mod deb;
mod image;
mod papers;
mod twice;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    commands, ebpf, host_tools,
    process::{output, run, say},
    toolchain::{self, Toolchain},
    workspace::Workspace,
};

/// The version of all that is shipped.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is copied as it is.
const COPIED: [&str; 3] = ["deploy/meshlb.toml", "deploy/meshlb.service", "deploy/meshlb.sysusers"];

/// Makes everything, and puts it where it is named.
pub(crate) fn ship(workspace: &Workspace, verify: bool, test: bool) -> Result<()> {
    if test {
        prepare_test()?;
    }
    binary::prepare()?;
    let toolchain = toolchain::ensure(workspace)?;
    let epoch = epoch(workspace)?;
    let made = make(workspace, toolchain, &epoch)?;
    if verify {
        twice::verify(workspace, toolchain, &epoch, &made)?;
    }
    if test {
        clean_root::test(workspace, &made, &epoch)?;
        image::test(workspace, &made, true)?;
    }
    Ok(())
}

/// Tests the package with a binary that is there already, so that CI need not wait for one that is static.
pub(crate) fn test_with(workspace: &Workspace, binary: &Path) -> Result<()> {
    prepare_test()?;
    let directory = workspace.target().join("dist-test");
    empty(&directory)?;
    lay_out(workspace, binary, &directory)?;
    clean_root::test(workspace, &directory, &epoch(workspace)?)?;
    image::test(workspace, &directory, binary::is_static(binary)?)
}

/// Makes everything in a directory below the target directory.
fn make(workspace: &Workspace, toolchain: Toolchain, epoch: &str) -> Result<PathBuf> {
    ebpf::build(workspace, toolchain)?;
    let binary = binary::build(workspace)?;
    let directory = workspace.target().join("dist");
    empty(&directory)?;
    lay_out(workspace, &binary, &directory)?;
    let package = deb::make(workspace, &directory, VERSION, epoch)?;
    sum_up(&directory)?;
    say(&format!("made {} and all that is around it in {}", package.display(), directory.display()));
    Ok(directory)
}

fn prepare_test() -> Result<()> {
    commands::require_root("dist --test")?;
    host_tools::ensure(&[host_tools::PACKAGING])
}

/// The binary, and what it says about itself.
fn lay_out(workspace: &Workspace, binary: &Path, directory: &Path) -> Result<()> {
    let program = directory.join("meshlb");
    copy(binary, &program)?;
    run(Command::new(&program).arg("man").arg("--directory").arg(directory.join("man")))?;
    let completions = directory.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in [("bash", "meshlb"), ("zsh", "_meshlb"), ("fish", "meshlb.fish")] {
        fs::write(completions.join(file), output(Command::new(&program).args(["completions", shell]))?)?;
    }
    for file in COPIED {
        let source = workspace.root().join(file);
        copy(&source, &directory.join(source.file_name().context("a file has a name")?))?;
    }
    papers::write(workspace, directory)
}

/// A fresh directory.
fn empty(directory: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// `SHA256SUMS` of all files, in the order of their names.
fn sum_up(directory: &Path) -> Result<()> {
    let script = "find . -type f ! -name SHA256SUMS -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum";
    let sums = output(Command::new("sh").args(["-c", script]).current_dir(directory))?;
    Ok(fs::write(directory.join("SHA256SUMS"), sums)?)
}

/// When the sources were made, in seconds since 1970: `SOURCE_DATE_EPOCH`, else when they were committed.
fn epoch(workspace: &Workspace) -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut git = Command::new("git");
    let committed = output(git.arg("-C").arg(workspace.root()).args(["log", "-1", "--format=%ct"]));
    Ok(committed.context("set SOURCE_DATE_EPOCH where there is no git")?.trim().to_owned())
}
