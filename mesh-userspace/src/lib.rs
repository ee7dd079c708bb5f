//! The agent and the command line, one binary.

pub mod agent;
pub mod api;
pub mod bundle;
pub mod cli;
pub mod composition;
pub mod config;
pub mod dataplane;
pub mod decap;
pub mod delivery;
pub mod desired;
pub mod discovery;
pub mod events;
pub mod headers;
pub mod health;
mod http;
pub mod logging;
pub mod maglev;
pub mod metrics;
mod nearest;
pub mod nexthop;
pub mod overrides;
pub mod performance;
pub mod plan;
pub mod preflight;
pub mod reconcile;
mod watching;
pub mod wide;
