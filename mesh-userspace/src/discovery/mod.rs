//! Backends that are not written in the configuration: sources say who is there. And services that are not: a source says
//! how they are defined.
//!
//! Architecture invariants: a source publishes whole [`Snapshot`]s, never edits; a failure is never an empty
//! snapshot: what a source said last stays in force while it fails, and over a restart of the agent, and everybody is
//! told how old it is; [`combine`] is pure, and what it makes of configuration and reports is a [`Config`] like one
//! that has every backend written in it, so that nobody else knows where a backend comes from.
//!
//! [`Config`]: crate::config::Config

mod combine;
mod consul;
mod dns;
mod error;
mod etcd;
mod eureka;
mod file;
mod heard;
mod http;
mod kubernetes;
mod list;
mod report;
mod secret;
mod snapshot;
mod sources;
mod store;
mod task;
#[cfg(test)]
mod tests;
mod voice;
mod waits;
mod word;

pub(crate) use http::{Client, Question};
pub(crate) use secret::{Secret, header as secret_header};

pub use combine::{Combined, combine};
pub use dns::DnsError;
pub use error::SourceError;
pub use http::HttpError;
pub use kubernetes::KubernetesError;
pub use report::{Report, Reports};
pub use snapshot::{Instance, Snapshot};
pub use sources::Sources;
pub use store::{Store, StoreError};
pub use word::{Follow, Word};
