//! Runs a command on this host: exit status 0 is a success.
//!
//! Invariant: when the probe is over, however it ended, no process of the command's group is left.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::{Deadline, ProbeError, Target};

/// Of what a command writes, so much is kept: bytes. The rest is thrown away.
const KEPT: usize = 4096;

/// Characters of the first line that errors show.
const SHOWN: usize = 200;

pub(super) async fn probe(
    program: &Path,
    arguments: &[String],
    target: Target<'_>,
    deadline: Deadline,
) -> Result<Duration, ProbeError> {
    let name = program.display().to_string();
    let mut child = command(program, arguments, target)
        .spawn()
        .map_err(|error| ProbeError::Local { reason: format!("{name} cannot be run: {error}") })?;
    let group = Group::of(&child);
    let done = deadline.meet(finish(&mut child, group)).await;
    let Some(done) = done else {
        let outcome = format!("did not end within {:?}", deadline.after);
        return Err(ProbeError::Command { command: name, outcome, output: String::new() });
    };
    let (status, output) =
        done.map_err(|error| ProbeError::Local { reason: format!("{name} cannot be waited for: {error}") })?;
    if status.success() {
        return Ok(deadline.elapsed());
    }
    Err(ProbeError::Command { command: name, outcome: format!("ended with {status}"), output })
}

fn command(program: &Path, arguments: &[String], target: Target<'_>) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("MESHLB_SERVICE", target.service.to_string())
        .env("MESHLB_BACKEND", target.address.ip().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    match target.address.port() {
        0 => command.env_remove("MESHLB_PORT"),
        port => command.env("MESHLB_PORT", port.to_string()),
    };
    command
}

/// Waits for the command, and reads meanwhile, so that it is never blocked.
async fn finish(child: &mut Child, group: Group) -> io::Result<(ExitStatus, String)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let status = child.wait().await;
        // Whoever it left behind would hold the pipes open.
        drop(group);
        status
    };
    let (status, out, err) = tokio::join!(ended, beginning(out), beginning(err));
    let line = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().find(|line| !line.trim().is_empty()).map(str::to_owned);
        line.map(|line| line.trim().chars().take(SHOWN).collect::<String>())
    };
    Ok((status?, line(&err).or_else(|| line(&out)).unwrap_or_default()))
}

/// Reads to the end, and keeps the beginning.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let mut kept = Vec::new();
    // Nothing else is to be done about a pipe that cannot be read.
    let _ = (&mut pipe).take(KEPT as u64).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    kept
}

/// The processes of a command, which end when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // There is nobody left, most of the time.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
