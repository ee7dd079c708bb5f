//! Name servers as sources of backends.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::choice::choices;

choices! {
    /// What is asked about a name.
    #[derive(Default)]
    DnsLookup {
        /// Its addresses.
        #[default]
        Address = "address",
        /// Which hosts offer a service, and their addresses (RFC 2782).
        Srv = "SRV",
    }
}

choices! {
    /// Which addresses are asked for.
    #[derive(Default)]
    DnsFamily {
        /// All.
        #[default]
        Both = "both",
        /// Those in A records.
        Ipv4 = "ipv4",
        /// Those in AAAA records.
        Ipv6 = "ipv6",
    }
}

/// A name that name servers know backends of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSource {
    /// In lower case, without the dot at the end; never completed by a domain.
    pub name: String,
    /// What is asked about it.
    pub record: DnsLookup,
    /// Which addresses.
    pub family: DnsFamily,
    /// Who is asked, one after the other until one answers; none: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long one of them has for an answer.
    pub timeout: Duration,
    /// A name that is known no more keeps its last answer for so long.
    pub absent_after: Duration,
}

impl DnsSource {
    /// The default of [`Self::timeout`].
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// The default of [`Self::absent_after`].
    pub const ABSENT_AFTER: Duration = Duration::from_secs(60);
    /// The port of name servers (RFC 1035 §4.2).
    pub const PORT: u16 = 53;
}

impl fmt::Display for DnsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dns ")?;
        match self.record {
            DnsLookup::Address => {}
            DnsLookup::Srv => write!(f, "{} ", self.record)?,
        }
        f.write_str(&self.name)?;
        match self.family {
            DnsFamily::Both => {}
            DnsFamily::Ipv4 | DnsFamily::Ipv6 => write!(f, " {}", self.family)?,
        }
        for (position, server) in self.servers.iter().enumerate() {
            write!(f, "{} {server}", if position == 0 { " of" } else { "," })?;
        }
        Ok(())
    }
}
