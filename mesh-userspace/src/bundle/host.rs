//! What the host says of itself: system, network, programs and maps of the kernel.

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use aya::maps::{MapInfo, loaded_maps};
use aya::programs::{ProgramInfo, loaded_programs};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Bundle, MOST_BYTES};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Files of `/proc` and the like that say what this host is.
const SYSTEM: [&str; 5] =
    ["/proc/version", "/etc/os-release", "/proc/meminfo", "/proc/loadavg", "/proc/self/limits"];

/// Settings that have to do with it.
const SETTINGS: [&str; 19] = [
    "kernel/unprivileged_bpf_disabled",
    "net/core/bpf_jit_enable",
    "net/core/bpf_jit_harden",
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_no_pmtu_disc",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv4/neigh/default/mcast_solicit",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/netfilter/nf_conntrack_max",
];

/// Commands that tell of the network, and what their answers are called.
const NETWORK: [(&str, &[&str]); 6] = [
    ("network/links.txt", &["-d", "-s", "link"]),
    ("network/addresses.txt", &["address"]),
    ("network/routes4.txt", &["-4", "route", "show", "table", "all"]),
    ("network/routes6.txt", &["-6", "route", "show", "table", "all"]),
    ("network/rules.txt", &["rule"]),
    ("network/neighbours.txt", &["-s", "neighbour"]),
];

/// The log of the unit, as long as it is of use.
const JOURNAL: &[&str] = &["--unit=meshlb", "--lines=2000", "--no-pager", "--output=short-iso"];

/// Adds what this host is, its settings, and the log of the unit.
pub async fn system(bundle: &mut Bundle) {
    let mut text = String::new();
    for path in SYSTEM {
        let said = fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "== {path}\n{}", said.trim_end());
    }
    bundle.add("system.txt", Ok::<_, String>(text));
    bundle.add("sysctl.txt", Ok::<_, String>(settings()));
    bundle.add("log.txt", said_by("journalctl", JOURNAL).await);
}

fn settings() -> String {
    let mut text = String::new();
    for key in SETTINGS {
        let value = fs::read_to_string(format!("/proc/sys/{key}"));
        let value = value.map_or_else(|error| format!("({error})"), |value| value.trim().to_owned());
        let _ = writeln!(text, "{} = {value}", key.replace('/', "."));
    }
    text
}

/// Adds interfaces, addresses, routes, rules and neighbours.
pub async fn network(bundle: &mut Bundle) {
    for (name, arguments) in NETWORK {
        bundle.add(name, said_by("ip", arguments).await);
    }
}

/// What a command prints, as much as a file takes.
async fn said_by(program: &str, arguments: &[&str]) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let out = child.stdout.take().ok_or_else(|| format!("{program} has no output"))?;
    let read = async {
        let mut bytes = Vec::new();
        // One byte more than fits, so that it is seen to be too long.
        let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let length = out.take(most).read_to_end(&mut bytes).await?;
        let is_whole = length <= MOST_BYTES;
        let status = if is_whole { Some(child.wait().await?) } else { None };
        Ok((bytes, status))
    };
    let (bytes, status) =
        timeout(PATIENCE, read).await.map_err(|_late| format!("{program} took too long"))?.map_err(failed)?;
    match status {
        Some(status) if !status.success() => Err(format!("{program} {}: {status}", arguments.join(" "))),
        Some(_) | None => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Adds the programs and maps of the kernel: all of them, for those of others may be in the way.
pub fn kernel(bundle: &mut Bundle) {
    let programs: Result<Vec<Value>, String> = loaded_programs()
        .map(|info| info.map(|info| program(&info)).map_err(|error| error.to_string()))
        .collect();
    let maps: Result<Vec<Value>, String> =
        loaded_maps().map(|info| info.map(|info| map(&info)).map_err(|error| error.to_string())).collect();
    bundle.add_json("bpf/programs.json", programs);
    bundle.add_json("bpf/maps.json", maps);
}

fn program(info: &ProgramInfo) -> Value {
    json!({
        "id": info.id(),
        "name": info.name_as_str(),
        "type": format!("{:?}", info.program_type()),
        "tag": format!("{:016x}", info.tag()),
        "machine_code_bytes": info.size_jitted(),
        "verified_instructions": info.verified_instruction_count(),
        "maps": info.map_ids().ok().flatten(),
        "run_count": info.run_count(),
        "run_time_ns": u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
    })
}

fn map(info: &MapInfo) -> Value {
    json!({
        "id": info.id(),
        "name": info.name_as_str(),
        "type": info.map_type().map_or_else(|_unknown| "unknown".to_owned(), |kind| format!("{kind:?}")),
        "key_bytes": info.key_size(),
        "value_bytes": info.value_size(),
        "entries": info.max_entries(),
        "flags": info.map_flags(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_that_fail_or_are_not_there_say_so() {
        assert_eq!(said_by("echo", &["a", "b"]).await.unwrap(), "a b\n");
        assert!(said_by("false", &["x"]).await.unwrap_err().starts_with("false x: exit status"));
        assert!(said_by("no-such-program", &[]).await.unwrap_err().starts_with("no-such-program: "));
        assert!(said_by("yes", &[]).await.unwrap().len() > MOST_BYTES, "what does not end is cut");
    }
}
