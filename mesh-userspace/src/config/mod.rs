//! The configuration: TOML in, types out on which the agent can rely.
//!
//! Invariant: a [`Config`] that came out of [`load`] or [`parse`] is valid as a whole: no identity appears twice,
//! every number is in its range, everything fits the limits. Nothing here opens a socket or asks a clock; only
//! [`load`] touches a file. What depends on the host (that an interface exists) is the agent's to check.

mod agent;
mod choice;
mod faces;
mod health;
mod key;
mod limits;
mod restart;
mod service;
mod table;

pub use agent::{Agent, OnExit, XdpMode};
pub use faces::{Api, Log, LogFormat, Metrics};
pub use health::{Health, ProbeKind};
pub use key::ServiceKey;
pub use limits::Limits;
pub use service::{Backend, Forward, Protocol, Scheduler, Service, Tracking};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
    /// `[api]`.
    pub api: Api,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[log]`.
    pub log: Log,
    /// `[limits]`.
    pub limits: Limits,
    /// Every `[[service]]`, in the order of the file.
    pub services: Vec<Service>,
}
