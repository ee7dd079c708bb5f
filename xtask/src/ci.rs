//! Everything a change must pass, in the order in which a mistake is found fastest.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    commands, ebpf, host_tools,
    process::{run, say},
    toolchain,
    workspace::{HOST_PACKAGES, Workspace},
};

/// Stops at the first failure. The tests come last, so that the last line is the runner's.
pub(crate) fn run_all(workspace: &Workspace) -> Result<ExitCode> {
    commands::require_root("ci")?;
    step("format", workspace.cargo().args(["fmt", "--all", "--check"]))?;
    host_tools::ensure()?;
    let toolchain = toolchain::ensure(workspace)?;
    say("ci: kernel programs");
    ebpf::clippy(workspace, toolchain)?;
    ebpf::build(workspace, toolchain)?;
    step("lints", &mut clippy(workspace))?;
    step("documentation", &mut documentation(workspace))?;
    step(
        "examples in the documentation",
        workspace.cargo().args(["test", "--doc", "--quiet"]).args(HOST_PACKAGES),
    )?;
    say("ci: demo");
    let demo = commands::scenario(workspace, "demo", &[])?;
    if demo != ExitCode::SUCCESS {
        return Ok(demo);
    }
    say("ci: tests");
    commands::test(workspace, &[], &[])
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    say(&format!("ci: {name}"));
    run(command)
}

fn clippy(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.args(["clippy", "--locked", "--all-targets"]).args(HOST_PACKAGES).args(["--", "-Dwarnings"]);
    command
}

fn documentation(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.args(["doc", "--no-deps"]).args(HOST_PACKAGES).env("RUSTDOCFLAGS", "-Dwarnings");
    command
}
