//! The agent and the command line, one binary.

pub mod config;
pub mod health;
pub mod nexthop;
