//! What each command does, step by step.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{
    consul, ebpf,
    host_tools::{self, Tool},
    process::{become_program, find_program, is_root, run, say},
    toolchain,
    workspace::{HOST_PACKAGES, Profile, Workspace, cargo, outside_cargo},
};

/// The kernel programs, then the agent that embeds them.
pub(crate) fn build(workspace: &Workspace, profile: Profile) -> Result<()> {
    ebpf::build(workspace, toolchain::ensure(workspace)?)?;
    run(cargo().args(["build", "--package", "mesh-userspace"]).args(profile.arguments()))?;
    say(&format!("built {}", workspace.program(profile, "meshlb").display()));
    Ok(())
}

/// All tests, or those whose names contain a filter. The last line is the runner's.
pub(crate) fn test(workspace: &Workspace, filters: &[String], runner: &[String]) -> Result<()> {
    prepare(workspace, "test", host_tools::ALL)?;
    consul::ensure(workspace)?;
    run_tests(filters, runner)
}

/// So many packets of a seed through the loaded program and its twin on the host.
pub(crate) fn fuzz(workspace: &Workspace, packets: u64, seed: u64) -> Result<()> {
    prepare(workspace, "fuzz", &[])?;
    let mut command = cargo();
    command.env("MESHLB_FUZZ_PACKETS", packets.to_string()).env("MESHLB_FUZZ_SEED", seed.to_string());
    command.args(["test", "--package", "mesh-tests", "--test", "packets", "fuzz::the_loaded_program"]);
    become_program(command.args(["--", "--nocapture"]))
}

/// A binary of the tests' crate, optimised, with the agent beside it.
pub(crate) fn scenario(
    workspace: &Workspace,
    binary: &str,
    tools: &[&[Tool]],
    arguments: &[String],
) -> Result<()> {
    prepare(workspace, binary, tools)?;
    become_program(build_scenario(workspace, binary)?.args(arguments))
}

/// What tests and scenarios need: a machine that has it all, and the kernel programs.
fn prepare(workspace: &Workspace, command: &str, tools: &[&[Tool]]) -> Result<()> {
    require_root(command)?;
    host_tools::ensure(tools)?;
    ebpf::build(workspace, toolchain::ensure(workspace)?)
}

/// Builds the agent with the tests, in one go: built alone, its dependencies would have other features and
/// be compiled twice. The agent's binary must be there before the tests that start it.
pub(crate) fn run_tests(filters: &[String], runner: &[String]) -> Result<()> {
    run(cargo().args(["build", "--bins", "--tests"]).args(HOST_PACKAGES))?;
    let mut command = cargo();
    if find_program("cargo-nextest").is_some() {
        command.args(["nextest", "run"]).args(HOST_PACKAGES).args(filters).arg("--");
    } else {
        command.args(["test", "--tests", "--no-fail-fast"]).args(HOST_PACKAGES).arg("--").args(filters);
    }
    become_program(command.args(runner))
}

/// Builds the agent with a binary of the tests' crate, for the same reason; returns the command that runs it.
pub(crate) fn build_scenario(workspace: &Workspace, binary: &str) -> Result<Command> {
    let packages = ["--package", "mesh-userspace", "--package", "mesh-tests"];
    run(cargo().args(["build", "--release", "--bin", "meshlb", "--bin", binary]).args(packages))?;
    Ok(outside_cargo(workspace.program(Profile::Release, binary)))
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
