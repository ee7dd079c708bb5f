//! Kernel, capabilities and settings of the host. Pure: texts of `/proc` and `/sys` in, findings out.

use super::Finding;
use crate::config::{Config, ProbeKind, ProbeTo};

/// The oldest kernel that has all that the programs use: multi-buffer XDP (README, "Limits").
const KERNEL: (u32, u32) = (5, 18);

/// Bits of capabilities (include/uapi/linux/capability.h).
const NET_ADMIN: Capability = Capability { bit: 12, name: "CAP_NET_ADMIN" };
const NET_RAW: Capability = Capability { bit: 13, name: "CAP_NET_RAW" };
const SYS_ADMIN: Capability = Capability { bit: 21, name: "CAP_SYS_ADMIN" };
const PERFMON: Capability = Capability { bit: 38, name: "CAP_PERFMON" };
const BPF: Capability = Capability { bit: 39, name: "CAP_BPF" };

/// Descriptors that the agent has beside those of probes: maps, links, connections of its API and of sources.
const DESCRIPTORS: u64 = 256;

#[derive(Clone, Copy)]
struct Capability {
    bit: u32,
    name: &'static str,
}

impl Capability {
    const fn is_in(self, set: u64) -> bool {
        set >> self.bit & 1 == 1
    }
}

/// What the configuration asks of the caller, beside what every agent needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// Raw sockets: probes by echo request, probes to VIPs. `None`: nobody has said.
    raw: Option<bool>,
    /// Probes to VIPs.
    pub(super) vip_probes: bool,
}

impl Needs {
    /// There is no configuration.
    pub(super) const fn unknown() -> Self {
        Self { raw: None, vip_probes: false }
    }

    pub(super) fn of(config: &Config) -> Self {
        let healths = || config.services.iter().filter_map(|service| service.health.as_ref());
        let vip_probes = healths().any(|health| health.to == ProbeTo::Vip);
        let echoes = healths().any(|health| matches!(health.kind, ProbeKind::Icmp));
        Self { raw: Some(vip_probes || echoes), vip_probes }
    }
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn kernel(release: &str) -> Finding {
    let found = format!("Linux {release}; {}.{} or newer is needed", KERNEL.0, KERNEL.1);
    match version(release) {
        Some(version) if version >= KERNEL => Finding::ok("kernel", "", found),
        Some(_) => Finding::fail("kernel", "", found).so(
            "the programs take packets in several buffers (xdp.frags), which older kernels do not load",
            "install a newer kernel, and boot it",
        ),
        None => Finding::warn("kernel", "", format!("{found}; the release was not understood"))
            .so("an older kernel refuses the programs", "compare it yourself: uname -r"),
    }
}

/// The effective capabilities of `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

pub(super) fn has_sys_admin(status: &str) -> bool {
    effective(status).is_some_and(|set| SYS_ADMIN.is_in(set))
}

pub(super) fn capabilities(status: &str, needs: Needs) -> Finding {
    let set = effective(status).unwrap_or(0);
    // The kernel takes CAP_SYS_ADMIN for CAP_BPF and CAP_PERFMON (include/linux/capability.h).
    let lacks =
        |wanted: &&Capability| !wanted.is_in(set) && (wanted.bit < BPF.bit - 1 || !SYS_ADMIN.is_in(set));
    let raw = (needs.raw == Some(true)).then_some(NET_RAW);
    let wanted: Vec<_> = [BPF, NET_ADMIN, PERFMON].into_iter().chain(raw).collect();
    let names = |all: &[&Capability]| all.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    let missing: Vec<_> = wanted.iter().filter(lacks).collect();
    if !missing.is_empty() {
        return Finding::fail("capabilities", "", format!("the caller lacks {}", names(&missing))).so(
            "the kernel refuses to load or attach the programs, or to send probes",
            "run as root, or give the unit these in AmbientCapabilities and CapabilityBoundingSet",
        );
    }
    if needs.raw.is_none() && !NET_RAW.is_in(set) {
        return Finding::warn("capabilities", "", "the caller lacks CAP_NET_RAW").so(
            "probes of kind = \"icmp\" and those to = \"vip\" need it",
            "give it, or do without such probes",
        );
    }
    Finding::ok("capabilities", "", format!("the caller has {}", names(&wanted.iter().collect::<Vec<_>>())))
}

pub(super) fn jit(setting: Option<&str>) -> Finding {
    match setting {
        Some("0") => Finding::warn("jit", "", "net.core.bpf_jit_enable is 0").so(
            "programs are interpreted, which takes several times the CPU for each packet",
            "sysctl -w net.core.bpf_jit_enable=1, and in /etc/sysctl.d",
        ),
        Some(setting) => Finding::ok("jit", "", format!("net.core.bpf_jit_enable is {setting}")),
        None => Finding::ok("jit", "", "the kernel has no such setting here: net.core.bpf_jit_enable"),
    }
}

pub(super) fn unprivileged(setting: Option<&str>) -> Finding {
    const NAME: &str = "kernel.unprivileged_bpf_disabled";
    match setting {
        Some("0") => Finding::warn("unprivileged-bpf", "", format!("{NAME} is 0")).so(
            "every user of this host may load BPF programs; the agent does not need that, attackers may",
            "sysctl -w kernel.unprivileged_bpf_disabled=2, and in /etc/sysctl.d",
        ),
        Some(setting) => Finding::ok("unprivileged-bpf", "", format!("{NAME} is {setting}")),
        None => Finding::ok("unprivileged-bpf", "", "the kernel lets no other user load BPF programs"),
    }
}

/// Of `none [integrity] confidentiality`, the word in brackets is in force (Documentation of `lockdown`).
pub(super) fn lockdown(setting: Option<&str>) -> Finding {
    let in_force =
        setting.and_then(|text| text.split_once('[')?.1.split_once(']')).map_or("none", |(word, _)| word);
    // Both kinds forbid programs to read or write the kernel's and users' memory, which ours do not.
    Finding::ok("lockdown", "", format!("{in_force}; the programs need nothing that it forbids"))
}

/// `Max open files  1024  524288  files` of `/proc/self/limits`; `None` is without limit.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(super) fn open_files(limits: &str, at_once: u32) -> Finding {
    let needed = u64::from(at_once) + DESCRIPTORS;
    match soft_limit(limits) {
        Some(limit) if limit < needed => Finding::warn(
            "open-files",
            "",
            format!("the caller may open {limit} files; {needed} may be needed"),
        )
        .so(
            "probes of many backends each have a descriptor; those that get none say nothing",
            format!("ulimit -n {needed}, or LimitNOFILE= in the unit, or lower health.at_once"),
        ),
        limit => {
            let limit = limit.map_or("any number of".to_owned(), |limit| limit.to_string());
            Finding::ok(
                "open-files",
                "",
                format!("the caller may open {limit} files; {needed} may be needed"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Level;

    /// All that there are.
    const ALL: &str = "Name:\tmeshlb\nCapEff:\t000001ffffffffff\n";

    fn without(bits: &[u32]) -> String {
        let set = bits.iter().fold(0x1ff_ffff_ffff_u64, |set, bit| set & !(1 << bit));
        format!("CapInh:\t0\nCapEff:\t{set:016x}\n")
    }

    #[test]
    fn kernels_are_compared_by_number() {
        let cases = [
            ("5.18.0", Level::Ok),
            ("6.1.0-18-amd64", Level::Ok),
            ("6.18.44-fc", Level::Ok),
            ("7.0-rc1", Level::Ok),
            ("5.17.9", Level::Fail),
            ("5.4.0-100-generic", Level::Fail),
            ("4.19", Level::Fail),
            ("next", Level::Warn),
            ("", Level::Warn),
        ];
        for (release, level) in cases {
            assert_eq!(kernel(release).level, level, "{release}");
        }
    }

    #[test]
    fn capabilities_are_needed_by_what_is_configured() {
        let plain = Needs { raw: Some(false), vip_probes: false };
        let raw = Needs { raw: Some(true), vip_probes: true };
        assert_eq!(capabilities(ALL, raw).level, Level::Ok);
        assert_eq!(capabilities(&without(&[13]), plain).level, Level::Ok);
        assert_eq!(capabilities(&without(&[13]), Needs::unknown()).level, Level::Warn);
        assert!(capabilities(&without(&[13]), raw).found.ends_with("lacks CAP_NET_RAW"));
        assert_eq!(capabilities(&without(&[38, 39]), plain).level, Level::Ok, "CAP_SYS_ADMIN is as good");
        let none = capabilities(&without(&[12, 21, 38, 39]), plain);
        assert!(none.found.ends_with("lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{none:?}");
        assert_eq!(capabilities("", plain).level, Level::Fail, "nothing is known");
    }

    #[test]
    fn settings_that_cost_something_are_told() {
        let levels =
            |check: fn(Option<&str>) -> Finding| [Some("0"), Some("1"), None].map(|s| check(s).level);
        assert_eq!(levels(jit), [Level::Warn, Level::Ok, Level::Ok]);
        assert_eq!(levels(unprivileged), [Level::Warn, Level::Ok, Level::Ok]);
        assert!(lockdown(Some("none [integrity] confidentiality")).found.starts_with("integrity"));
        assert!(lockdown(None).found.starts_with("none"));
    }

    #[test]
    fn probes_need_descriptors() {
        let limits = |soft: &str| {
            format!("Max processes   1 2 p\nMax open files            {soft}     4096   files\n")
        };
        assert_eq!(open_files(&limits("768"), 512).level, Level::Ok);
        assert_eq!(open_files(&limits("unlimited"), 512).level, Level::Ok);
        let few = open_files(&limits("767"), 512);
        assert!(few.level == Level::Warn && few.remedy.contains("ulimit -n 768"), "{few:?}");
    }
}
