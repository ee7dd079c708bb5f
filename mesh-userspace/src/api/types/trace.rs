//! Packets that are watched.

use serde::{Deserialize, Serialize};

/// A line of what somebody who watches is told; each is a JSON value on a line of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceLine {
    /// A packet.
    Packet(Box<TraceView>),
    /// How many packets were wanted and missed so far, for there was no room to tell of them.
    Missed(u64),
}

/// A packet, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceView {
    /// When it came. Seconds since 1970.
    pub time: f64,
    /// The interface that it came in by.
    pub interface: String,
    /// How its journey ended, as the counters name it.
    pub outcome: String,
    /// `pass`, `drop`, `transmit` or `redirect`.
    pub verdict: String,
    /// Name of its service; none where it has none.
    pub service: Option<String>,
    /// The client, as `192.0.2.1:4242` or `[2001:db8::1]:4242`; none where no flow was read.
    pub client: Option<String>,
    /// Whom it is to, in the same form.
    pub destination: Option<String>,
    /// `tcp`, `udp` or a number.
    pub protocol: Option<String>,
    /// What it does to its flow, as in an explanation.
    pub segment: Option<String>,
    /// Its TCP flags, as `SYN ACK`; none where it is no TCP segment.
    pub flags: Option<String>,
    /// Address of its backend; none where it came to none.
    pub backend: Option<String>,
    /// The phase of its slot; none where none was looked at.
    pub phase: Option<String>,
    /// Whether its flow was found in the flow table.
    pub recorded: bool,
    /// Bytes of its frame.
    pub length: u32,
    /// The frame as it came, or its beginning, in hexadecimal digits.
    pub hex: String,
}
