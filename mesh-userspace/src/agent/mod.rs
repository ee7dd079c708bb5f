//! The agent.

pub mod command;

pub use command::{Command, CommandError};
