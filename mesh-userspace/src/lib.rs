//! The agent and the command line, one binary.

pub mod config;
pub mod dataplane;
pub mod desired;
pub mod health;
pub mod maglev;
pub mod nexthop;
pub mod plan;
