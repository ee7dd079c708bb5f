//! The agent and the command line of MeshLB.

pub mod agent;
pub mod api;
pub mod metrics;
