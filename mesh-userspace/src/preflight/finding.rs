//! What a check found, and all of it together.

use serde::{Deserialize, Serialize};

/// Every check, in the order in which documents explain them.
pub const CHECKS: [&str; 25] = [
    "kernel",
    "capabilities",
    "bpffs",
    "jit",
    "unprivileged-bpf",
    "lockdown",
    "open-files",
    "tun",
    "memory",
    "state",
    "socket",
    "listen",
    "next-program",
    "interface",
    "xdp",
    "xdp-program",
    "offloads",
    "egress",
    "route",
    "mtu",
    "vip",
    "backends",
    "health",
    "rp-filter",
    "probe",
];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, or may, but not as it could.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check, such as `mtu`.
    pub check: String,
    /// What it is about, such as an interface or a service; empty: the host.
    pub about: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// Why it matters; empty where all is well.
    pub why: String,
    /// What to do, in one line; empty where there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(check: &str, about: &str, found: impl Into<String>) -> Self {
        let empty = String::new;
        Self {
            check: check.into(),
            about: about.into(),
            level: Level::Ok,
            found: found.into(),
            why: empty(),
            remedy: empty(),
        }
    }

    /// Something could be better.
    pub(super) fn warn(check: &str, about: &str, found: impl Into<String>) -> Self {
        Self { level: Level::Warn, ..Self::ok(check, about, found) }
    }

    /// Something does not work.
    pub(super) fn fail(check: &str, about: &str, found: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::ok(check, about, found) }
    }

    /// Why it matters, and what to do.
    #[must_use]
    pub(super) fn so(self, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: remedy.into(), ..self }
    }
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The configuration that was checked against; `None`: the host alone was checked.
    pub config: Option<String>,
    /// How many findings are `ok`.
    pub ok: usize,
    /// How many are `warn`.
    pub warn: usize,
    /// How many are `fail`.
    pub fail: usize,
    /// The findings, in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Counts.
    #[must_use]
    pub fn new(config: Option<String>, findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Self { config, ok: count(Level::Ok), warn: count(Level::Warn), fail: count(Level::Fail), findings }
    }
}
