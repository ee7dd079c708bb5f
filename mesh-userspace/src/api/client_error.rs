//! Why the client has no answer, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;

use super::client::TIMEOUT;
use super::types::ApiError;

/// Why there is no answer, or a refusal.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nothing is at the path.
    #[error("no agent at {}: there is no such socket", .socket.display())]
    NoSocket {
        /// The path tried.
        socket: PathBuf,
    },
    /// A socket is there and nobody listens.
    #[error("no agent at {}: nobody listens there", .socket.display())]
    Refused {
        /// The path tried.
        socket: PathBuf,
    },
    /// The user may not connect.
    #[error("no permission to talk to the agent at {}", .socket.display())]
    Permission {
        /// The path tried.
        socket: PathBuf,
    },
    /// The agent took the connection and said nothing.
    #[error("the agent at {} did not answer within {} s", .socket.display(), TIMEOUT.as_secs())]
    Timeout {
        /// The path tried.
        socket: PathBuf,
    },
    /// The agent refused, and says why.
    #[error("{}", .body.error)]
    Refusal {
        /// HTTP status.
        status: u16,
        /// What it said.
        body: ApiError,
    },
    /// What came back is not what this version expects.
    #[error("the answer of the agent at {} is not understood (HTTP status {status}): {reason}", .socket.display())]
    NotUnderstood {
        /// The path tried.
        socket: PathBuf,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection failed in another way.
    #[error("cannot talk to the agent at {}: {reason}", .socket.display())]
    Connection {
        /// The path tried.
        socket: PathBuf,
        /// The innermost cause.
        reason: String,
    },
}

impl ClientError {
    /// What to do next, if anything is known to help.
    pub fn advice(&self) -> Option<String> {
        let advice = match self {
            Self::NoSocket { .. } | Self::Refused { .. } => {
                "is the agent running? start it with: meshlb run --config FILE; or give --socket PATH"
            }
            Self::Permission { .. } => "run as root, or as a member of the socket's group",
            Self::Timeout { .. } => "packets are still balanced; look at the agent's log",
            Self::Refusal { body, .. } => return body.advice.clone(),
            Self::NotUnderstood { .. } => "is the agent of the same version as this command?",
            Self::Connection { .. } => "look at the agent's log, or give --socket PATH",
        };
        Some(advice.to_owned())
    }
}
