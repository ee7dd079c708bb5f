//! Everything a change must pass, in the order in which a mistake is found fastest.

use std::process::Command;

use anyhow::Result;

use crate::{
    commands, consul, deny, dist, ebpf, host_tools,
    process::{run, say},
    toolchain,
    workspace::{HOST_PACKAGES, Profile, Workspace, cargo},
};

/// Stops at the first failure. The tests come last, so that the last line is the runner's.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    commands::require_root("ci")?;
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    host_tools::ensure(host_tools::ALL)?;
    consul::ensure(workspace)?;
    let toolchain = toolchain::ensure(workspace)?;
    say("ci: kernel programs");
    ebpf::clippy(workspace, toolchain)?;
    ebpf::build(workspace, toolchain)?;
    step("lints", &mut clippy())?;
    step("documentation", &mut documentation())?;
    say("ci: dependencies");
    deny::check(workspace)?;
    step("demo", &mut commands::build_scenario(workspace, "demo")?)?;
    say("ci: package");
    dist::test_with(workspace, &workspace.program(Profile::Release, "meshlb"))?;
    step("examples in the documentation", cargo().args(["test", "--doc", "--quiet"]).args(HOST_PACKAGES))?;
    say("ci: tests");
    commands::run_tests(&[], &[])
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    say(&format!("ci: {name}"));
    run(command)
}

fn clippy() -> Command {
    let mut command = cargo();
    command.args(["clippy", "--locked", "--all-targets"]).args(HOST_PACKAGES).args(["--", "-Dwarnings"]);
    command
}

fn documentation() -> Command {
    let mut command = cargo();
    command.args(["doc", "--no-deps"]).args(HOST_PACKAGES).env("RUSTDOCFLAGS", "-Dwarnings");
    command
}
