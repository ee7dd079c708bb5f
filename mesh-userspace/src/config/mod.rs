//! The configuration: TOML in, types out on which the agent can rely.
//!
//! Invariant: a [`Config`] that came out of [`load`] or [`parse`] is valid as a whole: no identity appears twice,
//! every number is in its range, everything fits the limits. Nothing here opens a socket or asks a clock; only
//! [`load`] touches files, and whatever parses one that names a `key_file`, that. What depends on the host (that an
//! interface exists) is the agent's to check.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

mod agent;
mod choice;
mod definitions;
pub mod difference;
mod discovery;
mod error;
mod faces;
mod fingerprint;
mod guard;
mod health;
mod key;
mod limits;
mod nat;
mod otlp;
mod performance;
mod probing;
mod quic;
mod read;
mod render;
mod restart;
mod secret;
mod service;
mod source;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

pub use agent::{Agent, OnExit, OuterSource, XdpMode};
pub use definitions::{Defined, Definitions};
pub use discovery::{
    Access, ConsulSource, Discovery, DiscoveryKind, DiscoverySource, DnsFamily, DnsLookup, DnsSource,
    Endpoint, EtcdSource, EurekaSource, FileSource, Kubeconfig, KubernetesSource, Login, ServicesFrom,
    ServicesKind, Standing,
};
pub use error::{ConfigError, Location, Problem};
pub use faces::{Api, FlowLog, FlowLogTo, Log, LogFormat, Metrics, Web};
pub use guard::{Admittance, Rules};
pub use health::{
    Damping, DnsProbe, DnsRecord, GrpcProbe, Health, HttpProbe, Method, Passive, Pattern, ProbeKind,
    ProbeName, ProbeTo, Statuses, UdpProbe,
};
pub use key::{Ports, ServiceKey, Vip, is_address};
pub use limits::Limits;
pub use nat::{Nat, NatSource};
pub use otlp::Otlp;
pub use performance::{Measure, Performance};
pub use probing::{Correlated, OnCorrelated, Probing};
pub use quic::{Quic, ServerId};
pub(crate) use secret::hidden;
pub use service::{Backend, Forward, Group, OnNoBackends, Oversized, Protocol, Scheduler, Service, Tracking};
pub use source::Source;
pub use tls::{Protocol as TlsProtocol, Tls, TlsError};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory of files with further services, beside the file unless it is absolute.
    pub include: Option<PathBuf>,
    /// `[services_from]`: where further services are defined.
    pub services_from: Option<ServicesFrom>,
    /// `[agent]`.
    pub agent: Agent,
    /// `[api]`.
    pub api: Api,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[web]`.
    pub web: Web,
    /// `[log]`.
    pub log: Log,
    /// `[flow_log]`; `None`: flows are not logged.
    pub flow_log: Option<FlowLog>,
    /// `[otlp]`; `None`: nothing is sent to a collector.
    pub otlp: Option<Otlp>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[health]`.
    pub probing: Probing,
    /// Every `[[service]]`, in the order of the files.
    pub services: Vec<Service>,
}

/// Reads, parses and validates the file at `path`.
///
/// # Errors
/// The file cannot be read, or says everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    Source::read(path)?.parse()
}

/// Whether an address is one that a single host can have on a network, so that packets can be sent to it.
#[must_use]
pub fn is_host(address: IpAddr) -> bool {
    read::refusal(address).is_none()
}

/// Parses and validates `text`; errors call it `name`.
///
/// # Errors
/// Says everything that is wrong with the text, or the first thing when it is not TOML.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    Source::new(name, text).parse()
}
