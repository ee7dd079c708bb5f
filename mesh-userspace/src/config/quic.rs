//! `[[service.quic]]`: how the connection ids of a QUIC service are read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use mesh_common::quic::Parameters;

/// `[[service.quic]]`: how ids with one codepoint are read, and whose the server ids in them are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quic {
    /// The codepoint in the first three bits of the ids.
    pub rotation: u8,
    /// Lengths and key.
    pub parameters: Parameters,
    /// The backends by their server ids, which have the length that `parameters` say.
    pub server_ids: BTreeMap<ServerId, IpAddr>,
}

/// What names a backend in connection ids: 1 to 15 bytes, shown as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub Vec<u8>);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
