//! `[api]`, `[metrics]`, `[web]`, `[log]`: how people and machines look at the agent.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::choice::choices;

choices! {
    /// The form of log lines.
    #[derive(Default)]
    LogFormat {
        /// Lines for people.
        #[default]
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

/// `[api]`: the socket of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Path of the unix socket, absolute.
    pub socket: PathBuf,
}

impl Api {
    /// The default of [`Self::socket`].
    pub const SOCKET: &str = "/run/meshlb/meshlb.sock";
}

impl Default for Api {
    fn default() -> Self {
        Self { socket: Self::SOCKET.into() }
    }
}

/// `[metrics]`: the HTTP listener for Prometheus and for liveness checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where to listen; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

impl Metrics {
    /// The default of [`Self::listen`].
    pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9440);
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: Some(Self::LISTEN) }
    }
}

/// `[web]`: the page for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Web {
    /// Where to listen; `None`: nowhere. Not reachable from other hosts unless there is a token.
    pub listen: Option<SocketAddr>,
    /// The file that holds what orders need, and looking, too, where other hosts can look; `None`: there are no orders.
    pub token_file: Option<PathBuf>,
}

/// `[log]`: what is logged, and in which form. Logs go to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The form of log lines.
    pub format: LogFormat,
    /// A filter as `tracing_subscriber::EnvFilter` reads it: `info`, or `info,mesh_userspace::health=debug`.
    pub level: String,
}

impl Log {
    /// The default of [`Self::level`].
    pub const LEVEL: &str = "info";
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: Self::LEVEL.into() }
    }
}
