//! A real etcd.

use std::path::PathBuf;
use std::time::Duration;

use mesh_tests::wait::until;
use mesh_tests::{Host, LoggedChild, preflight};

use super::stage::{SOON, Stage};

/// Until a member that was killed serves again.
const SERVES: Duration = Duration::from_secs(60);

/// The port that sources ask.
pub(crate) const PORT: u16 = 2379;

/// A cluster of one.
pub(crate) struct Etcd {
    host: Host,
    directory: PathBuf,
    port: u16,
    child: LoggedChild,
}

impl Etcd {
    pub(crate) fn start(stage: &Stage) -> Self {
        preflight::present("etcd", "etcd-server").unwrap();
        preflight::present("etcdctl", "etcd-client").unwrap();
        let (host, directory) = (stage.scene.topology.balancer().clone(), stage.scene.topology.directory());
        let child = launch(&host, &directory, PORT);
        let mut etcd = Self { host, directory, port: PORT, child };
        etcd.await_health();
        etcd
    }

    fn await_health(&mut self) {
        let (host, port) = (self.host.clone(), self.port);
        self.child.await_ready(SERVES, |_| control(&host, port, &["get", "health"]).map(drop)).unwrap();
    }

    /// Runs `etcdctl`, which must succeed.
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        until("etcd takes it", SOON, || control(&self.host, self.port, arguments)).unwrap()
    }

    pub(crate) fn put(&self, stage: &Stage, host: usize, keys: &str) {
        let value = format!("{{\"address\": \"{}\"{keys}}}", stage.address(host));
        self.control(&["put", &format!("/web/{host}"), &value]);
    }

    pub(crate) fn delete(&self, host: usize) {
        assert_eq!(self.control(&["del", &format!("/web/{host}")]).trim(), "1");
    }

    /// Dies, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill9().unwrap();
    }

    /// Begins again with what it knew, on this port.
    pub(crate) fn restart(&mut self, port: u16) {
        self.port = port;
        self.launch();
        self.await_health();
    }

    /// The same, without a look at whether it serves.
    pub(crate) fn launch(&mut self) {
        self.child = launch(&self.host, &self.directory, self.port);
    }
}

fn launch(host: &Host, directory: &std::path::Path, port: u16) -> LoggedChild {
    let url = format!("http://127.0.0.1:{port}");
    let mut command = host.command("etcd");
    command.arg("--data-dir").arg(directory.join("etcd"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    LoggedChild::spawn("etcd", command, directory.join("etcd.log")).unwrap()
}

fn control(host: &Host, port: u16, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = host.command("etcdctl");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints=127.0.0.1:{port}")).args(arguments);
    let output = command.output()?;
    anyhow::ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
