//! Running the `ip` and `ethtool` tools; a failure says what was run and what the tool answered.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Feeds `script`, one `ip` command per line, to `ip -batch` in the namespace (or in none).
pub(crate) fn batch(namespace: Option<&str>, script: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]);
    let output = feed(&mut command, script).context("cannot run ip")?;
    check(&output).with_context(|| format!("{command:?} refused:\n{script}"))
}

/// Runs a command to its end and expects status 0.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    check(&output).with_context(|| format!("{command:?} failed"))
}

fn feed(command: &mut Command, input: &str) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Scripts are shorter than a pipe's buffer, and an early death shows in the status.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
    Ok(child.wait_with_output()?)
}

fn check(output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
}
