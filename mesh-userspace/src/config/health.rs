//! `[service.health]`: how the backends of a service are probed.

use std::time::Duration;

/// `[service.health]`: how the backends of a service are probed, and what the results mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What a probe does.
    pub kind: ProbeKind,
    /// The port that is probed; `None`: the service's, which has one.
    pub port: Option<u16>,
    /// From the begin of one probe to the begin of the next.
    pub interval: Duration,
    /// A probe without an answer for this long has failed; at most `interval`.
    pub timeout: Duration,
    /// Successes in a row that make a backend up; at least 1.
    pub rise: u32,
    /// Failures in a row that make a backend down; at least 1.
    pub fall: u32,
    /// Per cent of the configured weight that must be healthy, else all backends are used; 0: only when none is
    /// healthy. At most 100.
    pub panic_threshold: u8,
}

impl Health {
    /// The default of [`Self::interval`].
    pub const INTERVAL: Duration = Duration::from_secs(1);
    /// The default of [`Self::timeout`], unless the interval is shorter.
    pub const TIMEOUT: Duration = Duration::from_millis(500);
    /// The default of [`Self::rise`].
    pub const RISE: u32 = 2;
    /// The default of [`Self::fall`].
    pub const FALL: u32 = 3;

    /// Probes of `kind` with the default of everything else.
    #[must_use]
    pub const fn new(kind: ProbeKind) -> Self {
        Self {
            kind,
            port: None,
            interval: Self::INTERVAL,
            timeout: Self::TIMEOUT,
            rise: Self::RISE,
            fall: Self::FALL,
            panic_threshold: 0,
        }
    }
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// Opens a TCP connection and closes it.
    Tcp,
    /// Sends `GET path` over HTTP/1.1 and looks at the status.
    Http {
        /// Path of the request, beginning with `/`.
        path: String,
        /// The `Host` header; `None`: the backend's address.
        host: Option<String>,
        /// Statuses that are successes (100 to 599); at least one.
        expect: Vec<u16>,
    },
}

impl ProbeKind {
    /// The default path of an HTTP probe.
    pub const PATH: &str = "/";
    /// The status that an HTTP probe expects by default.
    pub const EXPECT: u16 = 200;

    /// The spelling in configuration and output.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http { .. } => "http",
        }
    }
}
