//! A child process whose output goes to a file and is shown when a test fails.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Lines of the log that a failure shows.
const TAIL: usize = 60;

/// A running child; dropping it kills it. A test that panics shows the end of its log.
#[derive(Debug)]
pub struct LoggedChild {
    child: Child,
    title: String,
    log: PathBuf,
    /// Bytes that were in the log before this child.
    log_start: u64,
}

impl LoggedChild {
    /// Starts the command; its output is appended to `log`. Errors call it by its title.
    pub fn spawn(title: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::options().append(true).create(true).open(&log)?;
        let log_start = file.metadata()?.len();
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = spawn(command).with_context(|| format!("cannot start {title}"))?;
        Ok(Self { child, title: title.into(), log, log_start })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this child has written.
    pub fn log(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(usize::MAX);
        String::from_utf8_lossy(all.get(start..).unwrap_or_default()).into_owned()
    }

    /// The child's end, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until `ready` succeeds; a child that ends before has failed. Errors show the log's end.
    pub fn await_ready(
        &mut self,
        within: Duration,
        mut ready: impl FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let outcome = wait::until(&format!("{} is ready", self.title), within, || {
            Ok(if self.ended()?.is_some() { None } else { Some(ready(self)?) })
        });
        match outcome {
            Ok(Some(())) => Ok(()),
            Ok(None) => bail!("{} ended before it was ready{}", self.title, self.tail()),
            Err(error) => Err(error.context(format!("{} did not get ready{}", self.title, self.tail()))),
        }
    }

    /// Asks the child to end and waits for it.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.await_end(within)
    }

    /// Waits until the child has done its work, and returns what it has written. Any status but 0 is an error, which
    /// shows the log's end.
    pub fn finish(mut self, within: Duration) -> Result<String> {
        let status = self.await_end(within)?;
        ensure!(status.success(), "{}: {status}{}", self.title, self.tail());
        Ok(self.log())
    }

    /// Waits until the child has ended by itself.
    pub fn await_end(&mut self, within: Duration) -> Result<ExitStatus> {
        let title = format!("{} has ended", self.title);
        wait::until(&title, within, || self.ended()?.context("it is running"))
    }

    /// Kills the child, as a crash would, and waits for it.
    pub fn kill9(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Sends it a signal, if it has not ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        ensure!(self.ended()?.is_none(), "{} has ended by itself{}", self.title, self.tail());
        Ok(kill(Pid::from_raw(self.pid().try_into()?), signal)?)
    }

    fn tail(&self) -> String {
        tail(&self.log())
    }
}

/// The last lines, for error messages.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(TAIL).collect();
    let tail = lines.into_iter().rev().fold(String::new(), |text, line| text + "\n  | " + line);
    format!("; the end of its log:{tail}")
}

impl Drop for LoggedChild {
    fn drop(&mut self) {
        let _ = self.kill9();
        if thread::panicking() {
            eprintln!("{}{}", self.title, self.tail());
        }
    }
}

type Job = (Command, SyncSender<io::Result<Child>>);

/// Spawns from a thread that lives as long as this process: the parent-death signal of a child means the
/// thread that made it, and a test's or a runtime's thread may end earlier.
fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let (reply, child) = sync_channel(1);
    SPAWNER.get_or_init(start_spawner).send((command, reply)).ok().context("the spawning thread is gone")?;
    Ok(child.recv()??)
}

fn start_spawner() -> Sender<Job> {
    let (sender, jobs) = channel::<Job>();
    thread::spawn(move || {
        for (mut command, reply) in jobs {
            let _ = reply.send(command.spawn());
        }
    });
    sender
}
