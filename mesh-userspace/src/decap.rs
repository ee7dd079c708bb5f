//! PLACEHOLDER of this branch: the file is replaced at the merge.

use std::net::IpAddr;

use crate::config::XdpMode;

/// PLACEHOLDER of this branch.
///
/// # Errors
/// Always.
pub async fn run(interface: &str, vips: &[IpAddr], mode: XdpMode) -> anyhow::Result<()> {
    anyhow::bail!("this build cannot unwrap packets for {} VIPs on {interface} ({mode})", vips.len())
}
