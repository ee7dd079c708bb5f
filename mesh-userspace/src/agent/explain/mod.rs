//! What would become of a packet, and why: the programs say what they found, the agent what that means.

mod account;
mod prospect;
mod steps;

pub(crate) use account::verdict;
pub(super) use account::{hex, phase, protocol_name, segment_name};

use super::command::CommandError;
use crate::dataplane::kernel::{ExplainError, Explained, Explainer, Recipe};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::info;

/// What is asked about a packet.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The packet, from its Ethernet header on.
    pub packet: Vec<u8>,
    /// The name of the interface that it comes in by; none: the first that packets are taken from.
    pub interface: Option<String>,
    /// What would be otherwise.
    pub assumptions: Vec<Assumption>,
}

/// Something that is assumed of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assumption {
    /// It is down.
    Down(IpAddr),
    /// Its weight is another.
    Weight(IpAddr, u16),
}

/// What became of the packet of a question.
#[derive(Clone, Debug)]
pub struct Case {
    /// What was asked.
    pub question: Question,
    /// The name of the interface that it came in by.
    pub interface: String,
    /// What the programs made of it.
    pub explained: Explained,
}

/// Runs packets through an instance of the programs, which is loaded for the first of them and kept. Off the agent's loop.
#[derive(Clone)]
pub struct Bench {
    recipe: Recipe,
    explainer: Arc<Mutex<Option<Explainer>>>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").finish_non_exhaustive()
    }
}

impl Bench {
    pub(super) fn new(recipe: Recipe) -> Self {
        Self { recipe, explainer: Arc::default() }
    }

    /// Runs a packet. Blocks its thread: for the first packet as long as the kernel takes to load the programs.
    ///
    /// # Errors
    ///
    /// The kernel refuses the programs, or the packet.
    pub fn run(&self, packet: &[u8], ingress: u32) -> Result<Explained, CommandError> {
        let mut explainer = self.explainer.lock().unwrap_or_else(PoisonError::into_inner);
        if explainer.is_none() {
            let failed = |error: crate::dataplane::kernel::LoadError| {
                CommandError::failed(format!("the programs that explain cannot be loaded: {error}"))
                    .advise("packets are still balanced; look at the agent's log and at its pins")
            };
            *explainer = Some(Explainer::load(&self.recipe).map_err(failed)?);
            info!("loaded the programs that explain");
        }
        let Some(explainer) = explainer.as_mut() else { return Err(CommandError::failed("no programs")) };
        explainer.explain(packet, ingress).map_err(|error| refusal(&error))
    }
}

fn refusal(error: &ExplainError) -> CommandError {
    match error {
        ExplainError::Run(error) => {
            let reason = root(error);
            CommandError::invalid(format!("the kernel does not run the programs on this packet: {reason}"))
        }
        ExplainError::Notes(_) | ExplainError::Processors(_) | ExplainError::NoEnd => {
            CommandError::failed(error.to_string())
        }
    }
}

/// What the kernel said.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
