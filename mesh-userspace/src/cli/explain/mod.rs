//! `meshlb explain`: the packets that are asked about, and what the agent says.

mod capture;

use std::fmt::Write as _;
use std::io::Write;

use super::args::ExplainArgs;
use super::error::CliError;
use super::output::Output;
use super::{names, screens};
use crate::api::Client;
use crate::api::types::Explanation;
use crate::packet::{BuildError, Described};

/// Most packets of one capture.
const MOST_PACKETS: usize = 1000;

/// Why there is no packet to ask about.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Neither digits nor a file.
    #[error("{text} is neither a packet in hexadecimal digits nor a file that can be read: {reason}")]
    NotAPacket {
        /// What was given.
        text: String,
        /// Why it is no file.
        reason: String,
    },
    /// A file that is no capture.
    #[error("{file} is not a capture (pcap, pcapng): {reason}")]
    NotACapture {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Nothing in it.
    #[error("{file} has no Ethernet packets")]
    Empty {
        /// The file.
        file: String,
    },
    /// The ends do not go together.
    #[error(transparent)]
    NotBuilt(#[from] BuildError),
    /// A packet is neither given nor described.
    #[error("it needs --from and --to")]
    NotDescribed,
}

/// Asks about each packet, and prints the answers.
pub(super) async fn explain<W: Write>(
    agent: &Client,
    args: &ExplainArgs,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let packets = match &args.packet {
        Some(packet) => capture::packets(packet)?,
        None => vec![built(args)?],
    };
    let weights: Vec<String> =
        args.if_weight.iter().map(|(address, weight)| format!("{address}={weight}")).collect();
    let mut down = Vec::new();
    for backend in &args.if_down {
        down.push(names::address(agent, None, backend).await?);
    }
    let mut answers: Vec<Explanation> = Vec::new();
    for packet in &packets {
        let interface = args.interface.as_deref();
        answers.push(agent.explain(hex(packet), interface, &down, &weights).await?);
    }
    output.show(&answers, |answers| screens::explained(answers))
}

fn built(args: &ExplainArgs) -> Result<Vec<u8>, PacketError> {
    let (Some(from), Some(to)) = (args.from, args.to) else { return Err(PacketError::NotDescribed) };
    let (flags, payload) = (args.flags.clone(), args.payload);
    Ok(Described { from, to, proto: args.proto, flags, payload }.build()?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // A String takes all that is written.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
