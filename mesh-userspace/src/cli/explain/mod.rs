//! `meshlb explain`: the packets that are asked about, and what the agent says.

mod build;
mod capture;

use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;

use super::args::ExplainArgs;
use super::error::CliError;
use super::output::Output;
use super::{names, screens};
use crate::api::Client;
use crate::api::types::Explanation;

/// Most packets of one capture.
const MOST_PACKETS: usize = 1000;

/// Why there is no packet to ask about.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Client and destination are of different families.
    #[error("{from} and {to} are of different families")]
    Families {
        /// The client.
        from: IpAddr,
        /// The destination.
        to: IpAddr,
    },
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
    /// A packet that the program does not write.
    #[error("the packet could not be put together: {0}")]
    NotBuilt(String),
}

/// Asks about each packet, and prints the answers.
pub(super) async fn explain<W: Write>(
    agent: &Client,
    args: &ExplainArgs,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let packets = match &args.packet {
        Some(packet) => capture::packets(packet)?,
        None => vec![build::packet(args)?],
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // A String takes all that is written.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
