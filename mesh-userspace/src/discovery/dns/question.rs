//! What is asked.

use std::fmt;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use super::DnsError;

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Hosts that offer a service.
    Srv,
}

impl Kind {
    pub(super) const fn record(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Srv => RecordType::SRV,
        }
    }
}

/// A question to a name server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: Kind,
}

impl Question {
    pub(super) const fn new(name: Name, kind: Kind) -> Self {
        Self { name, kind }
    }

    /// As a message; what it is told from others by is random.
    pub(super) fn message(&self) -> Result<Message, getrandom::Error> {
        let [low, high, ..] = getrandom::u32()?.to_le_bytes();
        let mut message = Message::new(u16::from_le_bytes([low, high]), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind.record()));
        Ok(message)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.to_string();
        write!(f, "{} {}", self.kind.record(), name.trim_end_matches('.'))
    }
}

/// A configured name, which is whole as it is.
pub(super) fn name(configured: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(configured)
        .map_err(|error: ProtoError| DnsError::Name { name: configured.to_owned(), error })?;
    name.set_fqdn(true);
    Ok(name)
}
