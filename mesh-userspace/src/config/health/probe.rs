//! What a probe does, by kind.

use std::path::PathBuf;
use std::time::Duration;

use super::{Pattern, Statuses};
use crate::config::Tls;
use crate::config::choice::choices;

choices! {
    /// What a probe does, in a word.
    ProbeName {
        /// Opens a TCP connection and closes it.
        Tcp = "tcp",
        /// Sends a request over HTTP/1.1.
        Http = "http",
        /// The same, inside TLS.
        Https = "https",
        /// Asks a gRPC server for its health.
        Grpc = "grpc",
        /// Sends a datagram and waits for one.
        Udp = "udp",
        /// Asks a name server for a name.
        Dns = "dns",
        /// Sends an echo request.
        Icmp = "icmp",
        /// Runs a command on this host.
        Command = "command",
        /// Waits for the backend's own reports.
        Heartbeat = "heartbeat",
    }
}

choices! {
    /// Whom a probe asks.
    #[derive(Default)]
    ProbeTo {
        /// The backend's own address, as any host would.
        #[default]
        Address = "address",
        /// The VIP, by the way of packets of clients to this backend.
        Vip = "vip",
    }
}

choices! {
    /// The method of an HTTP request.
    #[derive(Default)]
    Method {
        /// Asks for a resource.
        #[default]
        Get = "GET",
        /// Asks for its headers.
        Head = "HEAD",
        /// Asks what is possible.
        Options = "OPTIONS",
        /// Sends nothing to a resource.
        Post = "POST",
    }
}

choices! {
    /// What a name server is asked about a name.
    #[derive(Default)]
    DnsRecord {
        /// IPv4 addresses.
        #[default]
        A = "A",
        /// IPv6 addresses.
        Aaaa = "AAAA",
        /// Another name.
        Cname = "CNAME",
        /// Mail servers.
        Mx = "MX",
        /// Name servers.
        Ns = "NS",
        /// Names of addresses.
        Ptr = "PTR",
        /// The beginning of a zone.
        Soa = "SOA",
        /// Servers of a service.
        Srv = "SRV",
        /// Text.
        Txt = "TXT",
    }
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// Opens a TCP connection and closes it.
    Tcp,
    /// Sends a request over HTTP/1.1 and looks at the answer.
    Http(HttpProbe),
    /// Asks a gRPC server for its health (the standard protocol, `grpc.health.v1`).
    Grpc(GrpcProbe),
    /// Sends a datagram and waits for one.
    Udp(UdpProbe),
    /// Asks a name server.
    Dns(DnsProbe),
    /// Sends an echo request.
    Icmp,
    /// Runs a command: its absolute path, and arguments.
    Command(PathBuf, Vec<String>),
    /// Waits for the backend's own reports.
    Heartbeat {
        /// A backend that has not reported for this long is down.
        ttl: Duration,
    },
}

/// An HTTP request, and what its answer has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// `None`: in plain.
    pub tls: Option<Tls>,
    /// The method.
    pub method: Method,
    /// Path of the request, beginning with `/`.
    pub path: String,
    /// The `Host` header; `None`: the address that is probed.
    pub host: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Statuses that are successes.
    pub expect: Statuses,
    /// What the body has to contain.
    pub answer: Option<Pattern>,
    /// The header of the answer that says the backend's load; `None`: nothing is looked for.
    pub load_header: Option<String>,
}

/// A question for a gRPC server's health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrpcProbe {
    /// `None`: in plain.
    pub tls: Option<Tls>,
    /// The `:authority` header; `None`: the address that is probed.
    pub host: Option<String>,
    /// Whose health; empty: the whole server's.
    pub service: String,
}

/// A datagram, and what its answer has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpProbe {
    /// What is sent.
    pub send: Vec<u8>,
    /// What the answer has to contain; `None`: any answer will do.
    pub answer: Option<Pattern>,
}

/// A question for a name server, which has to know an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProbe {
    /// The name.
    pub query: String,
    /// What about it.
    pub record: DnsRecord,
    /// What one of the answers has to contain, as text; `None`: any answer will do.
    pub answer: Option<Pattern>,
}

impl HttpProbe {
    /// The default of [`Self::path`].
    pub const PATH: &str = "/";
    /// The status that is expected by default.
    pub const EXPECT: u16 = 200;

    /// A request for a path, with the default of everything else.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            tls: None,
            method: Method::Get,
            path: path.to_owned(),
            host: None,
            headers: Vec::new(),
            expect: Statuses::one(Self::EXPECT),
            answer: None,
            load_header: None,
        }
    }
}

impl ProbeKind {
    /// In a word.
    #[must_use]
    pub const fn name(&self) -> ProbeName {
        match self {
            Self::Tcp => ProbeName::Tcp,
            Self::Http(HttpProbe { tls: None, .. }) => ProbeName::Http,
            Self::Http(HttpProbe { tls: Some(_), .. }) => ProbeName::Https,
            Self::Grpc(_) => ProbeName::Grpc,
            Self::Udp(_) => ProbeName::Udp,
            Self::Dns(_) => ProbeName::Dns,
            Self::Icmp => ProbeName::Icmp,
            Self::Command(..) => ProbeName::Command,
            Self::Heartbeat { .. } => ProbeName::Heartbeat,
        }
    }

    /// Whether backends say of their load.
    #[must_use]
    pub const fn tells_load(&self) -> bool {
        match self {
            Self::Http(probe) => probe.load_header.is_some(),
            Self::Heartbeat { .. } => true,
            Self::Tcp | Self::Grpc(_) | Self::Udp(_) | Self::Dns(_) | Self::Icmp | Self::Command(..) => false,
        }
    }

    /// Whether there can be no probe without a port.
    #[must_use]
    pub const fn needs_port(&self) -> bool {
        match self {
            Self::Tcp | Self::Http(_) | Self::Grpc(_) | Self::Udp(_) | Self::Dns(_) => true,
            Self::Icmp | Self::Command(..) | Self::Heartbeat { .. } => false,
        }
    }
}
