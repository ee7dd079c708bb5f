//! The agent under test: `meshlb run` in the balancer, its configuration, its log and its command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::child::{self, LoggedChild};
use crate::host::{Host, INTERFACE};
use crate::topology::Topology;
use crate::{client, meshlb};

/// Until `/readyz` says yes: verifying and loading the programs takes most of it.
const READY: Duration = Duration::from_secs(60);

/// Until a terminated agent has ended.
const END: Duration = Duration::from_secs(10);

/// A running (or killed) agent; dropping it kills it and leaves the pins to the topology. A test that panics
/// shows the end of its log.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    binary: PathBuf,
    defaults: Table,
    directory: PathBuf,
    /// What runs it, if it does not run by itself.
    wrapper: Vec<String>,
    child: Option<LoggedChild>,
}

impl Agent {
    /// Starts an agent in the balancer and waits until it is ready.
    ///
    /// What `config` leaves out of `[agent]` and `[api]` is set to fit the topology: the interface, the
    /// pin path, the state directory, the socket, and the XDP mode (native once [`Topology::attach_pass_program`] has prepared the
    /// balancer's cable for it, else generic).
    pub fn start(topology: &Topology, config: &str) -> Result<Self> {
        let directory = topology.directory().join("agent");
        fs::create_dir_all(&directory)?;
        let defaults = defaults(topology, &directory)?;
        let host = topology.balancer().clone();
        let (binary, wrapper) = (meshlb::binary()?, Vec::new());
        let mut agent = Self { host, binary, defaults, directory, wrapper, child: None };
        agent.write_config(config)?;
        agent.launch()?;
        Ok(agent)
    }

    /// Replaces the configuration file; the running agent learns of it by a reload.
    pub fn write_config(&self, config: &str) -> Result<()> {
        let mut table: Table = config.parse().context("the test's configuration is not TOML")?;
        merge(&mut table, &self.defaults);
        Ok(fs::write(self.config_path(), table.to_string())?)
    }

    /// Replaces the configuration file by this very text, right or wrong.
    pub fn write_config_verbatim(&self, config: &str) -> Result<()> {
        Ok(fs::write(self.config_path(), config)?)
    }

    /// Where the configuration is.
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("meshlb.toml")
    }

    /// Where the API's socket is, unless the configuration said otherwise.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("meshlb.sock")
    }

    /// The `meshlb` that it is.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(LoggedChild::pid)
    }

    /// All that it has logged, restarts included.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Kills it as a crash would. What is pinned stays.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.take().context("the agent does not run")?.kill9()?;
        Ok(())
    }

    /// Asks it to end, and waits.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.child.take().context("the agent does not run")?.terminate(END)
    }

    /// Starts it again and waits until it is ready, after terminating it if it runs.
    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.terminate()?;
        }
        self.launch()
    }

    /// From the next start on, a command runs it, which finds it and its arguments behind its own.
    pub fn wrap(&mut self, wrapper: &[impl ToString]) {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
    }

    /// Runs `meshlb` with these arguments and the agent's socket, in the balancer.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.host.command(&self.binary);
        command.args(arguments).arg("--socket").arg(self.socket());
        command.output().with_context(|| format!("cannot run {command:?}"))
    }

    /// Runs a command of `meshlb` with `-o json` and reads what it prints. Any other status than 0, or 3 of `status` where
    /// something is wrong, is an error that carries its stderr.
    pub fn cli_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let output = self.cli(&[arguments, &["-o", "json"]].concat())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        // Status 3 says that something is wrong, which is in the answer.
        let has_answered = matches!(output.status.code(), Some(0 | 3));
        ensure!(has_answered, "meshlb {arguments:?}: {}: {complaint}", output.status);
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("meshlb {arguments:?} printed no JSON"))
    }

    /// Asks the API on the socket: status and body.
    pub fn api(&self, path: &str) -> Result<(u16, String)> {
        ask(&self.socket(), path)
    }

    fn launch(&mut self) -> Result<()> {
        let mut command = match self.wrapper.split_first() {
            None => self.host.command(&self.binary),
            Some((wrapper, arguments)) => {
                let mut command = self.host.command(wrapper);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        command.arg("run").arg("--config").arg(self.config_path());
        let mut child = LoggedChild::spawn("meshlb run", command, self.log_path())?;
        let socket = self.socket();
        child.await_ready(READY, |_| match ask(&socket, "/readyz")? {
            (200, _) => Ok(()),
            (status, body) => bail!("/readyz answers {status}: {body}"),
        })?;
        self.child = Some(child);
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("meshlb.log")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A living child shows its log itself.
        if self.child.is_none() && thread::panicking() {
            eprintln!("meshlb run, which does not run any more{}", child::tail(&self.log()));
        }
    }
}

/// One request over the unix socket, which is a file and so the same in every network namespace.
fn ask(socket: &Path, path: &str) -> Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let http = client::builder().unix_socket(socket).timeout(Duration::from_secs(2)).build()?;
    runtime.block_on(async {
        let response = http.get(format!("http://meshlb{path}")).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    })
}

fn defaults(topology: &Topology, directory: &Path) -> Result<Table> {
    let mode = if topology.is_native(topology.balancer()) { "native" } else { "generic" };
    let pins = topology.bpffs().join("meshlb");
    let (socket, state) = (directory.join("meshlb.sock"), directory.join("state"));
    let text = format!(
        "[agent]\ninterfaces = [{INTERFACE:?}]\nxdp_mode = {mode:?}\npin_path = {pins:?}\n\
         state_directory = {state:?}\n[api]\nsocket = {socket:?}\n"
    );
    Ok(text.parse()?)
}

/// Adds what is missing, tables by their keys.
fn merge(table: &mut Table, defaults: &Table) {
    for (key, default) in defaults {
        match (table.get_mut(key), default) {
            (Some(Value::Table(given)), Value::Table(default)) => merge(given, default),
            (Some(_), _) => {}
            (None, _) => drop(table.insert(key.clone(), default.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_gaps_and_override_nothing() {
        let mut table: Table = "x = 1\n[agent]\nxdp_mode = \"auto\"\n".parse().unwrap();
        merge(
            &mut table,
            &"[agent]\nxdp_mode = \"generic\"\npin_path = \"/p\"\n[api]\nsocket = \"/s\"\n".parse().unwrap(),
        );
        let expected = "x = 1\n[agent]\nxdp_mode = \"auto\"\npin_path = \"/p\"\n[api]\nsocket = \"/s\"\n";
        assert_eq!(table, expected.parse().unwrap());
    }
}
