//! The kernel's address translation, ruled by nftables.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_tests::{Host, INTERFACE, LoggedChild};
use serde_json::Value;

use super::stage::Service;

/// For one call of `nft`.
const CALL: Duration = Duration::from_secs(10);

/// The table, and the counter in it.
const TABLE: &str = "balancer";
const COUNTER: &str = "connections";

/// A host that translates; its rules go with its namespace.
#[derive(Debug)]
pub(crate) struct Nftables {
    host: Host,
    log: PathBuf,
}

impl Nftables {
    /// For each address, the addresses that its connections are spread over, by a hash of the client's address and port.
    /// Answers must come back this way.
    pub(crate) fn start(host: &Host, services: &[Service], directory: &Path) -> Result<Self> {
        let nftables = Self { host: host.clone(), log: directory.join("nft.log") };
        host.sysctl("net/ipv4/ip_forward", "1")?;
        // Clients and backends are on one wire, and must not learn that.
        for interface in ["all", INTERFACE] {
            host.sysctl(&format!("net/ipv4/conf/{interface}/send_redirects"), "0")?;
        }
        let file = directory.join("balancer.nft");
        fs::write(&file, rules(services))?;
        nftables.nft(&["--file", &file.to_string_lossy()])?;
        // Records of ended connections would fill the table: two minutes are as many as it has room for.
        host.sysctl("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "10")?;
        Ok(nftables)
    }

    /// Connections that it has translated: only the first packet of each meets the rules.
    pub(crate) fn connections(&self) -> Result<u64> {
        let printed = self.nft(&["--json", "list", "counter", "ip", TABLE, COUNTER])?;
        packets(&printed).with_context(|| format!("nft printed {printed}"))
    }

    fn nft(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.host.command("nft");
        command.args(arguments);
        LoggedChild::spawn("nft", command, self.log.clone())?.finish(CALL)
    }
}

fn packets(printed: &str) -> Option<u64> {
    let objects: Value = serde_json::from_str(printed).ok()?;
    let mut objects = objects.get("nftables")?.as_array()?.iter();
    objects.find_map(|object| object.pointer("/counter/packets")?.as_u64())
}

fn rules(services: &[Service]) -> String {
    let rules: String = services.iter().map(rule).collect();
    format!(
        "table ip {TABLE} {{\ncounter {COUNTER} {{ }}\nchain prerouting {{\n\
         type nat hook prerouting priority dstnat;\n{rules}}}\n}}\n"
    )
}

fn rule(Service { address, backends }: &Service) -> String {
    let choices: Vec<String> =
        backends.iter().enumerate().map(|(number, backend)| format!("{number} : {}", backend.ip())).collect();
    format!(
        "ip daddr {} tcp dport {} counter name {COUNTER} dnat to jhash ip saddr . tcp sport mod {} map {{ {} }}\n",
        address.ip(),
        address.port(),
        backends.len(),
        choices.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_the_counter_are_read() {
        let printed = "{\"nftables\": [{\"metainfo\": {}}, {\"counter\": {\"packets\": 5, \"bytes\": 60}}]}";
        assert_eq!(packets(printed), Some(5));
        assert_eq!(packets("{\"nftables\": []}"), None);
    }
}
