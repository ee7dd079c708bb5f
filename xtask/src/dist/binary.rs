//! The one static binary.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    host_tools,
    process::{output, run, say},
    workspace::{Workspace, cargo},
};

/// No loader, no libraries: musl's C library is linked in.
pub(super) const TARGET: &str = "x86_64-unknown-linux-musl";

/// Installs what compiling for the target takes.
pub(super) fn prepare() -> Result<()> {
    host_tools::ensure(&[host_tools::STATIC])?;
    if !has_standard_library()? {
        say(&format!("adding the standard library for {TARGET}"));
        run(Command::new("rustup").args(["target", "add", TARGET]))
            .context("it takes rustup, or the distribution's standard library for this target")?;
    }
    ensure!(has_standard_library()?, "rustup added {TARGET} to another toolchain than this one");
    Ok(())
}

fn has_standard_library() -> Result<bool> {
    let print = ["--print", "target-libdir", "--target", TARGET];
    Ok(Path::new(output(Command::new("rustc").args(print))?.trim()).is_dir())
}

/// Builds it, beside what developers build: its flags are others.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target().join("dist-build");
    let mut command = cargo();
    command
        .args(["build", "--locked", "--package", "mesh-userspace", "--bin", "meshlb"])
        .args(["--profile", "dist", "--target", TARGET])
        .current_dir(workspace.root())
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", workspace.remaps().join("\x1f"));
    run(&mut command)?;
    let binary = target.join(TARGET).join("dist/meshlb");
    ensure!(is_static(&binary)?, "{} is not static", binary.display());
    Ok(binary)
}

/// Whether it names no interpreter, which would load libraries.
pub(super) fn is_static(binary: &Path) -> Result<bool> {
    let headers = output(Command::new("readelf").args(["--program-headers", "--wide"]).arg(binary))?;
    Ok(!headers.contains("INTERP"))
}
