//! The way from the faces to the agent's loop.
//!
//! Invariant: every question is answered, refused or given up within its timeout, so that a loop that hangs
//! never hangs its observers.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::failure::Failure;
use crate::agent::Command;

/// Whether packets are balanced yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The tables are loaded.
    Ready,
    /// They are not, because of this.
    NotReady(String),
}

/// How long the loop may take to answer.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For all but a reload.
    pub command: Duration,
    /// For a reload, which fills tables.
    pub reload: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { command: Duration::from_secs(5), reload: Duration::from_secs(30) }
    }
}

/// A cheap, cloneable way to ask the agent's loop.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    commands: mpsc::Sender<Command>,
    readiness: watch::Receiver<Readiness>,
    timeouts: Timeouts,
}

impl AgentHandle {
    /// Asks the loop that receives `commands` and says through `readiness` whether it balances.
    pub fn new(commands: mpsc::Sender<Command>, readiness: watch::Receiver<Readiness>) -> Self {
        Self { commands, readiness, timeouts: Timeouts::default() }
    }

    /// The same handle with other timeouts.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// Whether packets are balanced now.
    pub fn readiness(&self) -> Readiness {
        self.readiness.borrow().clone()
    }

    /// Whether the loop still takes commands.
    pub(crate) fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Tells the loop something that has no answer. Where it has no room for that, it finds out by itself.
    pub(crate) fn tell(&self, command: Command) {
        drop(self.commands.try_send(command));
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Failure> {
        self.ask_within(self.timeouts.command, command).await
    }

    pub(crate) async fn ask_reload<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Failure> {
        self.ask_within(self.timeouts.reload, command).await
    }

    async fn ask_within<T>(
        &self,
        limit: Duration,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let question = async {
            self.commands.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(limit, question).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Failure::stopping()),
            Err(_elapsed) => Err(Failure::no_answer(limit)),
        }
    }
}
