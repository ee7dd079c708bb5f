//! Bulk transfer, made by `iperf3`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_tests::{Host, LoggedChild};
use serde::Deserialize;

/// The port of the service and of the server.
pub(crate) const PORT: u16 = 5201;

/// Connections that carry bytes; one more carries commands.
const STREAMS: u64 = 4;

/// Until the server listens.
const READY: Duration = Duration::from_secs(10);

/// What iperf3 may take beyond its time.
const GRACE: Duration = Duration::from_secs(10);

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the backend.
    Up,
    /// From the backend to the client.
    Down,
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transferred {
    pub(crate) connections: u64,
    pub(crate) bytes: u64,
    pub(crate) bits_per_second: f64,
}

/// A server on every address of the host. Files go to `directory`.
pub(crate) fn serve(host: &Host, directory: &Path) -> Result<LoggedChild> {
    let mut command = host.command("iperf3");
    command.args(["--server", "--forceflush", "--port", &PORT.to_string()]);
    let title = format!("iperf3 on {}", host.name());
    let mut child = LoggedChild::spawn(&title, command, directory.join("iperf3-server.log"))?;
    child.await_ready(READY, |child| {
        ensure!(child.log().contains("Server listening"), "it has not said that it listens");
        Ok(())
    })?;
    Ok(child)
}

/// Sends as much as possible, over a few connections.
pub(crate) fn transfer(
    client: &Host,
    server: SocketAddr,
    direction: Direction,
    time: Duration,
    directory: &Path,
) -> Result<Transferred> {
    let mut command = client.command("iperf3");
    command.args(["--client", &server.ip().to_string(), "--port", &server.port().to_string(), "--json"]);
    command.args(["--parallel", &STREAMS.to_string(), "--time", &time.as_secs().to_string()]);
    command.args(["--connect-timeout", "3000"]);
    if direction == Direction::Down {
        command.arg("--reverse");
    }
    let printed =
        LoggedChild::spawn("iperf3", command, directory.join("iperf3.log"))?.finish(time + GRACE)?;
    read(&printed).with_context(|| format!("iperf3 printed {printed}"))
}

#[derive(Deserialize)]
struct Printed {
    end: End,
}

#[derive(Deserialize)]
struct End {
    streams: Vec<serde::de::IgnoredAny>,
    sum_received: Sum,
}

#[derive(Deserialize)]
struct Sum {
    bytes: u64,
    bits_per_second: f64,
}

fn read(printed: &str) -> Result<Transferred> {
    let End { streams, sum_received: Sum { bytes, bits_per_second } } =
        serde_json::from_str::<Printed>(printed)?.end;
    let streams = u64::try_from(streams.len())?;
    ensure!(streams == STREAMS && bytes > 0, "{bytes} bytes arrived over {streams} connections");
    Ok(Transferred { connections: streams + 1, bytes, bits_per_second })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(streams: &str, bytes: u64) -> String {
        format!(
            "{{\"end\":{{\"streams\":[{streams}],\"sum_received\":{{\"bytes\":{bytes},\"bits_per_second\":8.0}}}}}}"
        )
    }

    #[test]
    fn what_arrived_is_read() {
        let transferred = Transferred { connections: 5, bytes: 9, bits_per_second: 8.0 };
        assert_eq!(read(&printed("{},{},{},{}", 9)).unwrap(), transferred);
    }

    #[test]
    fn nothing_is_no_transfer() {
        assert!(read(&printed("{},{},{},{}", 0)).is_err());
        assert!(read(&printed("{}", 9)).is_err());
        assert!(read("{\"error\":\"unable to connect\"}").is_err());
    }
}
