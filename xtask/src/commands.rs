//! What each command does, step by step.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::{
    ebpf, host_tools,
    process::{find_program, hand_over, is_root, run, say},
    toolchain,
    workspace::{HOST_PACKAGES, Profile, Workspace},
};

/// The kernel programs, then the agent that embeds them.
pub(crate) fn build(workspace: &Workspace, profile: Profile) -> Result<ExitCode> {
    ebpf::build(workspace, toolchain::ensure(workspace)?)?;
    run(workspace.cargo().args(["build", "--package", "mesh-userspace"]).args(profile.arguments()))?;
    let agent = workspace.target().join(profile.directory()).join("meshlb");
    say(&format!("built {}", agent.display()));
    Ok(ExitCode::SUCCESS)
}

/// All tests, or those whose names contain a filter. The last line is the runner's.
pub(crate) fn test(workspace: &Workspace, filters: &[String], runner: &[String]) -> Result<ExitCode> {
    require_root("test")?;
    host_tools::ensure()?;
    build(workspace, Profile::Debug)?;
    let mut command = workspace.cargo();
    if find_program("cargo-nextest").is_some() {
        command.args(["nextest", "run"]).args(HOST_PACKAGES).args(filters).arg("--");
    } else {
        command.arg("test").args(HOST_PACKAGES).arg("--").args(filters);
    }
    hand_over(command.args(runner))
}

/// A binary of the tests' crate, optimised, with the agent beside it. The exit status is its own.
pub(crate) fn scenario(workspace: &Workspace, binary: &str, arguments: &[String]) -> Result<ExitCode> {
    require_root(binary)?;
    host_tools::ensure()?;
    build(workspace, Profile::Release)?;
    let mut command = workspace.cargo();
    command.args(["run", "--quiet", "--release", "--package", "mesh-tests", "--bin", binary, "--"]);
    hand_over(command.args(arguments))
}

/// # Errors
/// When not root, at once: nothing is built in vain.
pub(crate) fn require_root(command: &str) -> Result<()> {
    ensure!(
        is_root(),
        "`cargo xtask {command}` makes network namespaces and loads kernel programs: run it as root"
    );
    Ok(())
}
