//! The agent and the command line, one binary.

pub mod config;
pub mod logging;
