//! Files, ports and memory that the agent will want.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use super::Finding;
use crate::config::Config;
use crate::dataplane::kernel::{BPFFS, MapMemory, is_bpffs};

/// What probes to VIPs are led to.
const TUN: &str = "/dev/net/tun";

/// The nearest directory above (or at) a path that exists.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

/// As whom the caller acts, not as who it was started.
fn writable(path: &Path) -> Result<(), io::Error> {
    Ok(faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS)?)
}

pub(super) fn bpffs(pins: &Path, may_mount: bool) -> Finding {
    let place = nearest(pins);
    let pins_shown = pins.display().to_string();
    if !is_bpffs(place) {
        return not_mounted(pins, may_mount);
    }
    match writable(place) {
        Ok(()) => Finding::ok("bpffs", &pins_shown, "it is on a BPF file system, and writable"),
        Err(error) => {
            Finding::fail("bpffs", &pins_shown, format!("{} cannot be written: {error}", place.display())).so(
                "maps and links are pinned there",
                "run as root, or mount it writable: mount -o remount,rw",
            )
        }
    }
}

fn not_mounted(pins: &Path, may_mount: bool) -> Finding {
    let (shown, is_usual) = (pins.display().to_string(), pins.starts_with(BPFFS));
    if is_usual && may_mount && Path::new(BPFFS).exists() {
        return Finding::ok(
            "bpffs",
            &shown,
            format!("no BPF file system is on {BPFFS}: the agent mounts it"),
        );
    }
    let at = if is_usual { BPFFS.to_owned() } else { pins.parent().unwrap_or(pins).display().to_string() };
    Finding::fail("bpffs", &shown, "it is not on a BPF file system").so(
        "maps and links are pinned there, so that packets flow on when the agent ends",
        format!("mount -t bpf bpf {at}"),
    )
}

/// Where the agent writes: its state, and the socket of its API.
pub(super) fn directories(config: &Config) -> [Finding; 2] {
    let socket = &config.api.socket;
    [
        directory(
            "state",
            &config.agent.state_directory,
            "drains, weights and what sources said last are forgotten",
        ),
        directory("socket", socket.parent().unwrap_or(socket), "the agent does not start without its socket"),
    ]
}

fn directory(check: &str, path: &Path, why: &str) -> Finding {
    let (place, shown) = (nearest(path), path.display().to_string());
    let remedy = format!("mkdir -p {shown}, and let the agent's user write there");
    if !place.is_dir() {
        return Finding::fail(check, &shown, format!("{} is not a directory", place.display()))
            .so(why, remedy);
    }
    match writable(place) {
        Ok(()) if place == path => Finding::ok(check, &shown, "it is there, and writable"),
        Ok(()) => Finding::ok(check, &shown, "the agent makes it"),
        Err(error) => Finding::fail(check, &shown, format!("{} cannot be written: {error}", place.display()))
            .so(why, remedy),
    }
}

/// Where something is served, by the name of its section; `is_running`: whether an agent may have the port.
pub(super) fn listen(section: &str, address: Option<SocketAddr>, is_running: bool) -> Option<Finding> {
    let address = address?;
    let about = format!("{section} {address}");
    let Err(error) = TcpListener::bind(address) else {
        return Some(Finding::ok("listen", &about, "nobody listens there yet"));
    };
    if error.kind() == io::ErrorKind::AddrInUse && is_running {
        return Some(Finding::ok("listen", &about, "somebody listens there: the agent that runs"));
    }
    let port = address.port();
    let remedy =
        format!("see who has it: ss -ltnp 'sport = :{port}'; or give {section}.listen another address");
    let finding = Finding::fail("listen", &about, format!("it cannot be listened at: {error}"));
    Some(finding.so("the agent does not start", remedy))
}

pub(super) fn tun() -> Finding {
    if Path::new(TUN).exists() {
        return Finding::ok("tun", TUN, "it is there");
    }
    Finding::fail("tun", TUN, "there is no such device")
        .so("probes to = \"vip\" leave by a device that is made of it", "modprobe tun")
}

pub(super) fn next_program(pin: &Path) -> Finding {
    let shown = pin.display().to_string();
    if pin.exists() {
        return Finding::ok("next-program", &shown, "something is pinned there");
    }
    Finding::fail("next-program", &shown, "nothing is pinned there").so(
        "the agent does not start without it",
        "load and pin it before the agent starts, or leave next_program out",
    )
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes.saturating_mul(1024))
}

pub(super) fn memory(maps: &[MapMemory], meminfo: &str, is_running: bool) -> Finding {
    const WHY: &str = "maps have all their memory from the start; without it the agent does not start";
    const REMEDY: &str = "lower [limits]; meshlb check shows what each map takes";
    let needed: u64 = maps.iter().map(|map| map.bytes).sum();
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let Some(available) = available(meminfo) else {
        return Finding::warn(
            "memory",
            "",
            format!("maps take {} MiB; how much is free is not known", mebibytes(needed)),
        )
        .so(WHY, REMEDY);
    };
    let found = format!("maps take {} MiB, {} MiB are available", mebibytes(needed), mebibytes(available));
    if is_running {
        return Finding::ok("memory", "", format!("{found}; the agent that runs has its own already"));
    }
    match needed {
        needed if needed > available => Finding::fail("memory", "", found).so(WHY, REMEDY),
        needed if needed > available / 2 => Finding::warn("memory", "", found).so(WHY, REMEDY),
        _ => Finding::ok("memory", "", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    fn maps(bytes: u64) -> [MapMemory; 1] {
        [MapMemory { map: "SLOTS", entries: 1, bytes }]
    }

    #[test]
    fn maps_have_to_fit() {
        let meminfo = "MemTotal:  99 kB\nMemAvailable:    1024 kB\n";
        let level = |bytes| memory(&maps(bytes), meminfo, false).level;
        assert_eq!([1 << 19, (1 << 19) + 1, (1 << 20) + 1].map(level), [Level::Ok, Level::Warn, Level::Fail]);
        assert_eq!(memory(&maps(1 << 30), meminfo, true).level, Level::Ok, "they are there already");
        assert_eq!(memory(&maps(1), "", false).level, Level::Warn);
    }

    #[test]
    fn directories_are_made_where_that_is_possible() {
        let there = tempfile::tempdir().unwrap();
        assert_eq!(directory("state", there.path(), "").found, "it is there, and writable");
        assert_eq!(directory("state", &there.path().join("a/b"), "").found, "the agent makes it");
        let file = there.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(directory("state", &file.join("a"), "").level, Level::Fail);
    }

    #[test]
    fn a_port_that_somebody_has_is_told_unless_that_is_the_agent() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let level = |is_running| listen("metrics", Some(address), is_running).unwrap().level;
        assert_eq!([level(false), level(true)], [Level::Fail, Level::Ok]);
        drop(holder);
        assert_eq!(level(false), Level::Ok);
        assert_eq!(listen("metrics", None, false), None);
    }

    #[test]
    fn pins_elsewhere_need_a_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let finding = bpffs(&directory.path().join("meshlb"), true);
        let expected = format!("mount -t bpf bpf {}", directory.path().display());
        assert_eq!((finding.level, finding.remedy), (Level::Fail, expected));
    }
}
