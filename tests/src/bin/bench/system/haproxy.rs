//! HAProxy in TCP mode.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_tests::{Host, LoggedChild};

use super::stage::Service;

/// Until it answers, and until it answers a question.
const READY: Duration = Duration::from_secs(10);

/// A running HAProxy; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Haproxy {
    _child: LoggedChild,
    socket: PathBuf,
}

impl Haproxy {
    /// For each address that it listens at, the addresses that it spreads over.
    pub(crate) fn start(host: &Host, services: &[Service], directory: &Path) -> Result<Self> {
        let (file, socket) = (directory.join("haproxy.cfg"), directory.join("haproxy.sock"));
        fs::write(&file, config(&socket, services))?;
        let mut command = host.command("haproxy");
        command.args(["-db", "-f"]).arg(&file);
        let mut child = LoggedChild::spawn("haproxy", command, directory.join("haproxy.log"))?;
        child.await_ready(READY, |_| sessions(&socket).map(drop))?;
        Ok(Self { _child: child, socket })
    }

    /// Connections that it has accepted.
    pub(crate) fn connections(&self) -> Result<u64> {
        sessions(&self.socket)
    }
}

fn sessions(socket: &Path) -> Result<u64> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(READY))?;
    stream.write_all(b"show stat\n")?;
    let mut table = String::new();
    stream.read_to_string(&mut table)?;
    total(&table).with_context(|| format!("it says {table:?}"))
}

/// The sum of the column `stot` over all frontends (HAProxy management guide, 9.1).
fn total(table: &str) -> Option<u64> {
    let mut rows = table.trim_start_matches("# ").lines().map(|line| line.split(','));
    let mut header = rows.next()?;
    let column = header.position(|name| name == "stot")?;
    let frontends = rows.map(Iterator::collect::<Vec<_>>).filter(|row| row.get(1) == Some(&"FRONTEND"));
    frontends.map(|row| row.get(column)?.parse::<u64>().ok()).sum()
}

/// A thread for every processor, as is its default.
fn config(socket: &Path, services: &[Service]) -> String {
    let listeners: String = services.iter().enumerate().map(listener).collect();
    format!(
        "global\n  maxconn 8192\n  stats socket {} mode 600 level user\n\
         defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n{listeners}",
        socket.display()
    )
}

fn listener((number, Service { address, backends }): (usize, &Service)) -> String {
    let server =
        |(number, backend): (usize, &std::net::SocketAddr)| format!("  server backend-{number} {backend}\n");
    let servers: String = backends.iter().enumerate().map(server).collect();
    format!("listen service-{number}\n  bind {address} backlog 4096\n{servers}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_all_frontends_are_added() {
        let table = "# pxname,svname,qcur,stot,x\na,FRONTEND,,3,\na,backend-0,0,3,\na,BACKEND,0,3,\nb,FRONTEND,,4,\n\n";
        assert_eq!(total(table), Some(7));
        assert_eq!(total("Unknown command\n"), None);
    }
}
