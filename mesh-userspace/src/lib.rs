//! The agent and the command line, one binary.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod decap;
pub mod logging;
pub mod metrics;
