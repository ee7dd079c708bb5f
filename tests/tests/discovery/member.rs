//! A real etcd.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_tests::wait::until;
use mesh_tests::{Host, LoggedChild, preflight};

use super::papers::Papers;
use super::stage::{SOON, Stage};

/// Until a member that was killed serves again.
const SERVES: Duration = Duration::from_secs(60);

/// The port that sources ask.
pub(crate) const PORT: u16 = 2379;

/// A cluster of one.
pub(crate) struct Etcd {
    host: Host,
    directory: PathBuf,
    pub(crate) door: Door,
    child: LoggedChild,
}

/// Where a member is asked, and how.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) port: u16,
    /// `None`: in plain.
    pub(crate) tls: Option<Tls>,
}

/// What a member shows, and whom it believes.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) server: Papers,
    /// The authority of its clients.
    pub(crate) clients: PathBuf,
    /// What this test shows.
    pub(crate) client: Papers,
}

impl Door {
    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    fn arguments(&self) -> Vec<OsString> {
        let Some(Tls { server, clients, .. }) = &self.tls else { return Vec::new() };
        let [mut cert, mut key, mut trusted] =
            ["--cert-file=", "--key-file=", "--trusted-ca-file="].map(OsString::from);
        cert.push(&server.certificate);
        key.push(&server.key);
        trusted.push(clients);
        vec!["--client-cert-auth".into(), cert, key, trusted]
    }

    /// Runs `etcdctl`, which does not look at what the member shows.
    fn control(&self, host: &Host, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = host.command("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.url()));
        if let Some(Tls { client, .. }) = &self.tls {
            command.arg("--insecure-skip-tls-verify").arg("--cert").arg(&client.certificate);
            command.arg("--key").arg(&client.key);
        }
        let output = command.args(arguments).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{arguments:?}: {complaint}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Etcd {
    pub(crate) fn start(stage: &Stage) -> Self {
        Self::start_behind(stage, Door { port: PORT, tls: None })
    }

    pub(crate) fn start_behind(stage: &Stage, door: Door) -> Self {
        preflight::present("etcd", "etcd-server").unwrap();
        preflight::present("etcdctl", "etcd-client").unwrap();
        let (host, directory) = (stage.scene.topology.balancer().clone(), stage.scene.topology.directory());
        let child = launch(&host, &directory, &door);
        let mut etcd = Self { host, directory, door, child };
        etcd.await_health();
        etcd
    }

    fn await_health(&mut self) {
        let (host, door) = (self.host.clone(), self.door.clone());
        // Whoever is refused has been heard.
        let refusals = ["user name is empty", "permission denied"];
        let is_heard = |_: &LoggedChild| match door.control(&host, &["get", "health"]) {
            Err(error) if !refusals.iter().any(|it| error.to_string().contains(it)) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        };
        self.child.await_ready(SERVES, is_heard).unwrap();
    }

    /// Runs `etcdctl`, which must succeed.
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        until("etcd takes it", SOON, || self.door.control(&self.host, arguments)).unwrap()
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
        self.door.port = port;
        self.launch();
        self.await_health();
    }

    /// The same, without a look at whether it serves.
    pub(crate) fn launch(&mut self) {
        self.child = launch(&self.host, &self.directory, &self.door);
    }
}

fn launch(host: &Host, directory: &Path, door: &Door) -> LoggedChild {
    let url = door.url();
    let mut command = host.command("etcd");
    command.arg("--data-dir").arg(directory.join("etcd")).args(door.arguments());
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    LoggedChild::spawn("etcd", command, directory.join("etcd.log")).unwrap()
}
