//! nginx: the backends' HTTP server, and one of the balancers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_tests::{Client, Host, LoggedChild};

use super::stage::Service;

/// Where every nginx tells what it has counted; its own host alone can ask.
const STATUS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// Until it answers.
const READY: Duration = Duration::from_secs(10);

/// Until it has ended.
const END: Duration = Duration::from_secs(5);

/// The `stream` module, where it is not compiled in.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A running nginx; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Nginx {
    child: LoggedChild,
    status: Client,
}

impl Nginx {
    /// An HTTP server on every address of the host, which answers each request with a short text.
    pub(crate) fn web(host: &Host, port: u16, directory: &Path) -> Result<Self> {
        let server = format!(
            "server {{ listen {port} backlog=4096; location / {{ return 200 \"{}\\n\"; }} }}\n",
            host.name()
        );
        Self::start(host, "", &server, "", directory)
    }

    /// A balancer of TCP connections: for each address that it listens at, the addresses that it spreads over.
    pub(crate) fn stream(host: &Host, services: &[Service], directory: &Path) -> Result<Self> {
        let module = Path::new(STREAM_MODULE).exists().then(|| format!("load_module {STREAM_MODULE};\n"));
        let stream: String = services.iter().enumerate().map(proxy).collect();
        Self::start(host, &module.unwrap_or_default(), "", &format!("stream {{\n{stream}}}\n"), directory)
    }

    fn start(host: &Host, module: &str, server: &str, stream: &str, directory: &Path) -> Result<Self> {
        let prefix = directory.join(format!("nginx-{}", host.name()));
        fs::create_dir_all(&prefix)?;
        let file = prefix.join("nginx.conf");
        fs::write(&file, config(module, server, stream))?;
        let mut command = host.command("nginx");
        command.arg("-p").arg(&prefix).arg("-c").arg(&file).args(["-e", "stderr"]);
        let title = format!("nginx on {}", host.name());
        let child = LoggedChild::spawn(&title, command, prefix.join("nginx.log"))?;
        let mut nginx = Self { child, status: Client::new(host)? };
        let status = nginx.status.clone();
        nginx.child.await_ready(READY, |_| counted(&status).map(drop))?;
        Ok(nginx)
    }

    /// Connections that it has accepted, one for each question like this among them.
    pub(crate) fn connections(&self) -> Result<u64> {
        counted(&self.status)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only if it is asked to end. Whoever stays goes with the topology.
        let _ = self.child.terminate(END);
    }
}

fn counted(status: &Client) -> Result<u64> {
    let reply = status.get_path(STATUS, "/")?;
    ensure!(reply.status == 200, "it answers {}", reply.status);
    accepted(&reply.body).with_context(|| format!("it says {:?}", reply.body))
}

/// The first number of the third line of ngx_http_stub_status_module: connections accepted by any module.
fn accepted(status: &str) -> Option<u64> {
    status.lines().nth(2)?.split_whitespace().next()?.parse().ok()
}

/// All paths are below the prefix, and there is a worker for every processor, as its packages have it.
fn config(module: &str, server: &str, stream: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {kind};\n"))
        .into_iter()
        .collect();
    format!(
        "{module}daemon off;\nuser root;\nworker_processes auto;\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\naccess_log off;\n{temporary}{server}server {{ listen {STATUS}; location / {{ stub_status; }} }}\n}}\n\
         {stream}"
    )
}

fn proxy((number, Service { address, backends }): (usize, &Service)) -> String {
    let servers: String = backends.iter().map(|backend| format!("server {backend};\n")).collect();
    format!(
        "upstream service{number} {{\n{servers}}}\n\
         server {{ listen {address} backlog=4096; proxy_pass service{number}; }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_are_read_off_the_status() {
        let status =
            "Active connections: 1 \nserver accepts handled requests\n 17 17 21 \nReading: 0 Writing: 1\n";
        assert_eq!(accepted(status), Some(17));
        assert_eq!(accepted("404"), None);
    }
}
