//! Why a source says nothing.

use std::io;

use thiserror::Error;

use super::dns::DnsError;
use super::http::HttpError;
use super::kubernetes::KubernetesError;

/// Why a source says nothing. None of them means that nobody is there.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {error}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// The content of a file is wrong.
    #[error("{file}:{line}:{column}: {message}")]
    Content {
        /// Which.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A directory cannot be watched.
    #[error("{directory} cannot be watched: {error}")]
    Unwatchable {
        /// Which.
        directory: String,
        /// Why.
        error: notify::Error,
    },
    /// Name servers say nothing of use.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// A cluster says nothing of use.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// A file that should hold a secret does not.
    #[error("{file} holds no secret: {reason}")]
    NoSecret {
        /// Which.
        file: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A registry does not tell of changes any more.
    #[error("{request} was ended: {reason}")]
    Ended {
        /// What was asked for.
        request: String,
        /// Why, in the registry's words.
        reason: String,
    },
    /// A registry does not show everything to whoever asks.
    #[error("{request} was answered in part: the token may not see the rest")]
    Filtered {
        /// What was asked for.
        request: String,
    },
    /// A registry does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// How a source ends.
pub(super) type Followed = Result<std::convert::Infallible, SourceError>;
