//! What has changed, and why: the agent's memory for people. Bounded, in order, and kept on disk.

mod changes;
mod journal;
mod log;
#[cfg(test)]
mod tests;

pub use changes::{Reasons, changes};
pub use journal::Journal;
pub use log::{Log, Question};

use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, time::SystemTime};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The agent began or ended.
    Agent,
    /// A service came or went, or its backends are too few.
    Service,
    /// A backend came or went, or is something else to new flows.
    Backend,
    /// The way to a backend.
    NextHop,
    /// What a source says.
    Discovery,
    /// The configuration was read again.
    Reload,
    /// The operator has ordered something.
    Order,
    /// Probes of many backends fail at once.
    Incident,
    /// An interface came back.
    Interface,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agent => "agent",
            Self::Service => "service",
            Self::Backend => "backend",
            Self::NextHop => "next_hop",
            Self::Discovery => "discovery",
            Self::Reload => "reload",
            Self::Order => "order",
            Self::Incident => "incident",
            Self::Interface => "interface",
        })
    }
}

/// Something that happened; when is not said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// What it is about.
    pub kind: Kind,
    /// Name of the service, if it is about one.
    pub service: Option<String>,
    /// Address of the backend, if it is about one.
    pub backend: Option<IpAddr>,
    /// What happened, and why: one sentence.
    pub message: String,
}

impl Happening {
    /// About no service in particular.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, service: None, backend: None, message: message.into() }
    }

    /// The same about a service.
    #[must_use]
    pub fn of(self, service: &str) -> Self {
        Self { service: Some(service.to_owned()), ..self }
    }

    /// Whether it is one that somebody should look at.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        /// What such events say.
        const TROUBLE: [&str; 4] =
            ["went down", "cannot be reached", "does not answer", "too few backends are healthy"];
        self.kind == Kind::Incident || TROUBLE.iter().any(|words| self.message.contains(words))
    }

    /// The same about a backend.
    #[must_use]
    pub fn at(self, backend: IpAddr) -> Self {
        Self { backend: Some(backend), ..self }
    }
}

/// Something that happened, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: one more than that of the event before, also over restarts of the agent.
    pub sequence: u64,
    /// When. RFC 3339, UTC, with milliseconds.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// Of many names that are told together, so many are told.
const NAMED: usize = 3;

/// Names in a sentence: the first few, and how many more there are.
#[must_use]
pub fn some_of(names: &[impl fmt::Display]) -> String {
    let shown = names.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::time::SystemTime;

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}
