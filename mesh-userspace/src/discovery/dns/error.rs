//! Why name servers say nothing of use.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use hickory_proto::serialize::binary::DecodeError;
use thiserror::Error;

use super::answer::Missing;

/// Why name servers say nothing of use about a name.
#[derive(Debug, Error)]
pub enum DnsError {
    /// Should not happen: names are checked with the configuration.
    #[error("{name:?} is not a name that name servers know: {error}")]
    Name {
        /// Which.
        name: String,
        /// Why.
        error: ProtoError,
    },
    /// This host's list of name servers cannot be read.
    #[error("{file} cannot be read: {error}")]
    Unreadable {
        /// Where it is.
        file: &'static str,
        /// Why.
        error: io::Error,
    },
    /// This host's list of name servers is wrong.
    #[error("{file} is not understood: {reason}")]
    Content {
        /// Where it is.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// This host's list of name servers is empty.
    #[error("{file} names no name server; write `servers`")]
    NoServers {
        /// Where it is.
        file: &'static str,
    },
    /// None of the servers answers a question; each for its reason.
    #[error("{question} is not answered: {}", reasons(.failures))]
    Unanswered {
        /// What was asked.
        question: String,
        /// Who was asked, and what came of it.
        failures: Vec<(SocketAddr, ExchangeError)>,
    },
    /// A name is an alias of an alias of an alias...
    #[error("{question} is not answered: aliases lead on and on")]
    Aliases {
        /// What was asked.
        question: String,
    },
    /// A name has no records, which is not believed yet.
    #[error("{question}: {missing}; this is believed after {}", humantime::format_duration(*.believed_after))]
    Absent {
        /// What was asked.
        question: String,
        /// What there is not.
        missing: Missing,
        /// How long it has to be said.
        believed_after: Duration,
        /// When it is asked again.
        again: Duration,
    },
}

/// What came of asking one server.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// A question cannot be sent.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// Should not happen: names are checked with the configuration.
    #[error("the question cannot be written: {0}")]
    Unwritable(#[from] ProtoError),
    /// The answer cannot be read.
    #[error("its answer is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The server says that it cannot or does not want to answer.
    #[error("{0}")]
    Refusal(ResponseCode),
    /// The server names others who might know.
    #[error("it names other servers, but does not ask them itself")]
    Referral,
    /// Should not happen.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

fn reasons(failures: &[(SocketAddr, ExchangeError)]) -> String {
    let reasons = failures.iter().map(|(server, error)| format!("{server}: {error}"));
    reasons.collect::<Vec<_>>().join(", ")
}
