//! Requests over new connections, made by `wrk`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_tests::{Host, LoggedChild};
use serde::{Deserialize, Serialize};

/// Prints what was counted.
const SCRIPT: &str = include_str!("wrk.lua");

/// Connections at a time: enough to keep two processors busy, and few enough not to measure queues.
const AT_ONCE: &str = "32";

/// What wrk may take beyond its time.
const GRACE: Duration = Duration::from_secs(10);

/// What wrk counted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    /// How long it took.
    pub(crate) microseconds: u64,
    /// Latencies in microseconds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) errors: Errors,
}

/// What went wrong, in wrk's words. `status` is an answer of 400 or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Errors {
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

impl Errors {
    pub(crate) const fn total(&self) -> u64 {
        self.connect + self.read + self.write + self.status + self.timeout
    }

    pub(crate) const fn add(&mut self, other: &Self) {
        self.connect += other.connect;
        self.read += other.read;
        self.write += other.write;
        self.status += other.status;
        self.timeout += other.timeout;
    }
}

/// Asks for `/` as often as possible, each time over a connection of its own. Files go to `directory`.
pub(crate) fn ask(client: &Host, service: SocketAddr, time: Duration, directory: &Path) -> Result<Counted> {
    let script = directory.join("wrk.lua");
    fs::write(&script, SCRIPT)?;
    let mut command = client.command("wrk");
    command.args(["--threads", "1", "--connections", AT_ONCE, "--timeout", "2s"]);
    command.args(["--header", "Connection: close", "--duration", &format!("{}s", time.as_secs())]);
    command.arg("--script").arg(&script).arg(format!("http://{service}/"));
    let printed = LoggedChild::spawn("wrk", command, directory.join("wrk.log"))?.finish(time + GRACE)?;
    read(&printed).with_context(|| format!("wrk printed {printed}"))
}

fn read(printed: &str) -> Result<Counted> {
    let line = printed.lines().rfind(|line| line.starts_with('{')).context("there is no line of JSON")?;
    Ok(serde_json::from_str(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_script_is_found_behind_what_wrk_says_itself() {
        let printed = "Running 1s test @ http://192.0.2.10:8080/\n  Transfer/sec: 1MB\n{\"requests\":7,\
            \"microseconds\":1000,\"p50\":3,\"p99\":4,\"errors\":{\"connect\":1,\"read\":2,\"write\":3,\"status\":4,\
            \"timeout\":5}}\n";
        let counted = read(printed).unwrap();
        assert_eq!((counted.requests, counted.microseconds, counted.p50, counted.p99), (7, 1000, 3, 4));
        let mut errors = Errors { connect: 10, ..Errors::default() };
        errors.add(&counted.errors);
        assert_eq!(errors, Errors { connect: 11, read: 2, write: 3, status: 4, timeout: 5 });
    }

    #[test]
    fn without_that_line_there_is_an_error() {
        assert!(read("unable to connect to 192.0.2.10:8080 Connection refused\n").is_err());
    }
}
