//! `[service.health]`: how the backends of a service are probed.

mod passive;
mod pattern;
mod probe;
mod statuses;

use std::time::Duration;

pub use passive::Passive;
pub use pattern::Pattern;
pub use probe::{DnsProbe, DnsRecord, GrpcProbe, HttpProbe, Method, ProbeKind, ProbeName, ProbeTo, UdpProbe};
pub use statuses::Statuses;

/// `[service.health]`: how the backends of a service are probed, and what the results mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What a probe does.
    pub kind: ProbeKind,
    /// Whom it asks.
    pub to: ProbeTo,
    /// Whether its packets are as long as the way to the backend allows; only to the VIP.
    pub padded: bool,
    /// The port that is probed; `None`: the service's, which has one if the probe needs it.
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
    /// How long the share of a backend that came up grows from little to its weight; zero: not at all.
    pub slow_start: Duration,
    /// What becomes of backends that go down too often; `None`: they come up like all others.
    pub damping: Option<Damping>,
}

/// What becomes of a backend that goes down too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// How often is too often; at least 2.
    pub falls: u32,
    /// Within this time.
    pub within: Duration,
    /// How long its probes then have to succeed until it is up.
    pub hold: Duration,
}

impl Damping {
    /// The default of [`Self::within`].
    pub const WITHIN: Duration = Duration::from_secs(600);
    /// The default of [`Self::hold`].
    pub const HOLD: Duration = Duration::from_secs(120);
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
            to: ProbeTo::Address,
            padded: false,
            port: None,
            interval: Self::INTERVAL,
            timeout: Self::TIMEOUT,
            rise: Self::RISE,
            fall: Self::FALL,
            panic_threshold: 0,
            slow_start: Duration::ZERO,
            damping: None,
        }
    }
}
