//! `meshlb trace`: packets as they are balanced.

mod capture;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::args::TraceArgs;
use super::error::CliError;
use super::output::Output;
use super::{names, screens};
use crate::api::types::{TraceLine, TraceView};
use crate::api::{Client, Trace};

use capture::Capture;
pub use capture::CaptureError;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Packets by outcome.
    pub(super) outcomes: BTreeMap<String, u64>,
    /// Packets that were wanted and missed.
    pub(super) missed: u64,
}

impl Seen {
    /// Packets of all outcomes.
    pub(super) fn packets(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

/// Where packets go.
struct Sink<'a, W> {
    output: &'a mut Output<W>,
    capture: Option<Capture>,
    seen: Seen,
}

/// Shows packets, or writes them to a file, until there were enough, the time is over, or somebody interrupts.
pub(super) async fn trace<W: Write>(
    agent: &Client,
    args: &TraceArgs,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let capture = args.write.as_deref().map(Capture::create).transpose()?;
    // Before anybody is asked: whoever interrupts is told what was seen.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Output)?;
    let mut trace = agent.trace(&parameters(agent, args).await?).await?;
    let mut sink = Sink { output, capture, seen: Seen::default() };
    while args.count.is_none_or(|count| sink.seen.packets() < count) {
        let line = tokio::select! {
            line = trace.next() => line?,
            _ = interrupt.recv() => None,
        };
        let Some(line) = line else { break };
        sink.take(&line)?;
    }
    end(trace, sink, args.write.as_deref())
}

fn end<W: Write>(trace: Trace, sink: Sink<'_, W>, file: Option<&Path>) -> Result<(), CliError> {
    // Nobody watches from now on.
    drop(trace);
    let Sink { output, capture, seen } = sink;
    capture.map(Capture::finish).transpose()?;
    output.tell(|| screens::traced(&seen, file))
}

impl<W: Write> Sink<'_, W> {
    fn take(&mut self, line: &TraceLine) -> Result<(), CliError> {
        match line {
            TraceLine::Packet(packet) => self.packet(packet, line),
            TraceLine::Missed(missed) => {
                let more = missed.saturating_sub(self.seen.missed);
                self.seen.missed = *missed;
                if let Some(capture) = &mut self.capture {
                    capture.missed(more);
                    return Ok(());
                }
                if more == 0 {
                    self.output.line(line, |_| None::<String>)
                } else {
                    self.output.line(line, |_| screens::missed(more))
                }
            }
        }
    }

    fn packet(&mut self, packet: &TraceView, line: &TraceLine) -> Result<(), CliError> {
        *self.seen.outcomes.entry(packet.outcome.clone()).or_default() += 1;
        match &mut self.capture {
            Some(capture) => Ok(capture.write(packet)?),
            None => self.output.line(line, |_| screens::packet(packet)),
        }
    }
}

/// What is asked of the agent.
async fn parameters(agent: &Client, args: &TraceArgs) -> Result<Vec<(&'static str, String)>, CliError> {
    let (service, backend) = names::whose(agent, &args.of).await?;
    let mut parameters = Vec::new();
    let mut ask = |key, value: Option<String>| parameters.extend(value.map(|value| (key, value)));
    ask("service", service);
    ask("client", args.of.client.map(|net| net.to_string()));
    ask("backend", backend.map(|address| address.to_string()));
    for outcome in args.outcomes() {
        ask("outcome", Some(outcome.label().to_owned()));
    }
    let flags = args.flags.iter().fold(0, |all, flag| all | flag.bit());
    ask("flags", (flags != 0).then(|| flags.to_string()));
    ask("sample", (args.sample != 1).then(|| args.sample.to_string()));
    ask("seconds", args.lasting.map(|lasting| lasting.as_secs().to_string()));
    Ok(parameters)
}
