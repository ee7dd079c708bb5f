//! The agent.

pub mod command;

use std::path::Path;

pub use command::{Command, CommandError};

/// PLACEHOLDER of this branch: the file is replaced by the agent's at the merge.
///
/// # Errors
/// Always.
pub async fn run(config: &Path) -> anyhow::Result<()> {
    anyhow::bail!("this build has no agent to run with {}", config.display())
}

/// PLACEHOLDER of this branch: the file is replaced by the agent's at the merge.
///
/// # Errors
/// Always.
pub fn detach(pin_path: &Path) -> anyhow::Result<()> {
    anyhow::bail!("this build has no agent that could have pinned anything in {}", pin_path.display())
}
