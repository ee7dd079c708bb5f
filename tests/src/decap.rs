//! `meshlb decap` in a backend: the far end of the tunnels.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::child::LoggedChild;
use crate::host::{Host, INTERFACE};
use crate::meshlb;

/// Until the program is attached.
const READY: Duration = Duration::from_secs(20);

/// Until a terminated one has ended.
const END: Duration = Duration::from_secs(10);

/// A running decapsulator; dropping it kills it.
#[derive(Debug)]
pub struct Decap(LoggedChild);

impl Decap {
    /// Starts it on `eth0` of the host for these VIPs, addresses or prefixes, and waits until it says that it is attached.
    pub fn start(host: &Host, vips: &[impl Display]) -> Result<Self> {
        Self::start_with(host, vips, &[])
    }

    /// The same, with further arguments.
    pub fn start_with(host: &Host, vips: &[impl Display], arguments: &[&str]) -> Result<Self> {
        let mut command = host.command(meshlb::binary()?);
        command.args(["decap", "--interface", INTERFACE]);
        for vip in vips {
            command.arg("--vip").arg(vip.to_string());
        }
        command.args(arguments);
        let title = format!("meshlb decap on {}", host.name());
        let log = host.directory().join(format!("decap-{}.log", host.name()));
        let mut child = LoggedChild::spawn(&title, command, log)?;
        child.await_ready(READY, |child| {
            ensure!(child.log().contains("attached"), "it has not said that it is attached");
            Ok(())
        })?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Asks it to end, waits, and answers all that it has logged.
    pub fn terminate(mut self) -> Result<String> {
        let status = self.0.terminate(END)?;
        ensure!(status.success(), "it ended with {status}");
        Ok(self.0.log())
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.0.log()
    }
}
