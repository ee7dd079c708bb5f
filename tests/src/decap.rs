//! `meshlb decap` in a backend: the far end of the tunnels.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::child::LoggedChild;
use crate::host::{Host, INTERFACE};
use crate::meshlb;

/// Until the program is attached.
const READY: Duration = Duration::from_secs(20);

/// A running decapsulator; dropping it kills it.
#[derive(Debug)]
pub struct Decap(LoggedChild);

impl Decap {
    /// Starts it on `eth0` of the host for these VIPs, addresses or prefixes, and waits until it says that it is attached.
    pub fn start(host: &Host, vips: &[impl Display]) -> Result<Self> {
        let mut command = host.command(meshlb::binary()?);
        command.args(["decap", "--interface", INTERFACE]);
        for vip in vips {
            command.arg("--vip").arg(vip.to_string());
        }
        let title = format!("meshlb decap on {}", host.name());
        let log = host.directory().join(format!("decap-{}.log", host.name()));
        let mut child = LoggedChild::spawn(&title, command, log)?;
        child.await_ready(READY, |child| {
            ensure!(child.log().contains("attached"), "it has not said that it is attached");
            Ok(())
        })?;
        Ok(Self(child))
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.0.log()
    }
}
