//! Why a probe failed, in words for the person who has to repair it.
//!
//! Invariant: equal failures have equal texts (no times, no local ports), so that a lasting failure is one piece
//! of news.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use crate::config::Statuses;

/// A probe failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The host answers, the port does not.
    #[error("{address} refused the connection: nothing listens there")]
    Refused {
        /// What was connected to.
        address: SocketAddr,
    },
    /// No answer to the connection request.
    #[error("{address} did not accept a connection within {after:?}")]
    ConnectTimedOut {
        /// What was connected to.
        address: SocketAddr,
        /// How long it had.
        after: Duration,
    },
    /// The network, or this host's routes, know no way.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// What was connected to.
        address: SocketAddr,
        /// The operating system's reason.
        reason: String,
    },
    /// No TLS.
    #[error("TLS with {address} failed: {reason}")]
    Tls {
        /// What was connected to.
        address: SocketAddr,
        /// What is wrong, such as with the certificate.
        reason: String,
    },
    /// No whole answer.
    #[error("{request} was not answered within {after:?}")]
    NoAnswer {
        /// What was asked for.
        request: String,
        /// How long it had.
        after: Duration,
    },
    /// An HTTP answer, but not the right one.
    #[error("{request} returned status {found} (expected {expected})")]
    UnexpectedStatus {
        /// What was asked for.
        request: String,
        /// The answer's status.
        found: u16,
        /// The statuses that are successes.
        expected: Statuses,
    },
    /// An answer that does not say what it should.
    #[error("{request} was answered without {wanted}")]
    WrongAnswer {
        /// What was asked for.
        request: String,
        /// What the answer lacks.
        wanted: String,
    },
    /// The connection was closed or reset before the answer, or what came is none.
    #[error("{request} got no answer: {reason}")]
    BadAnswer {
        /// What was asked for.
        request: String,
        /// What happened instead.
        reason: String,
    },
    /// The backend says that it does not serve.
    #[error("{request} was answered: {answer}")]
    NotServing {
        /// What was asked for.
        request: String,
        /// What the answer says.
        answer: String,
    },
    /// The command says no.
    #[error("{command} {outcome}{}{output}", if output.is_empty() { "" } else { ": " })]
    Command {
        /// Its path.
        command: String,
        /// How it ended.
        outcome: String,
        /// The first line that it wrote.
        output: String,
    },
    /// The backend has not reported.
    #[error("the backend has not reported for {ttl:?}")]
    Silent {
        /// How often it should.
        ttl: Duration,
    },
    /// The backend has reported that it fails.
    #[error("the backend reports: {reason}")]
    Reported {
        /// In its words.
        reason: String,
    },
    /// A probe of the VIP failed.
    #[error("{error} ({way})")]
    OnPath {
        /// What has happened.
        error: Box<Self>,
        /// Where it went.
        way: String,
    },
    /// This host could not probe, which says nothing about the backend.
    #[error("could not probe: {reason}")]
    Local {
        /// What is missing here.
        reason: String,
    },
}

impl ProbeError {
    /// Whether the failure is this host's own.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Local { .. })
    }

    /// What a failure to connect means.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else the network says, there is no connection"
    )]
    pub(super) fn connect(address: SocketAddr, after: Duration, error: &io::Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            _ if is_shortage(error) => Self::Local { reason },
            io::ErrorKind::ConnectionRefused => Self::Refused { address },
            io::ErrorKind::TimedOut => Self::ConnectTimedOut { address, after },
            _ => Self::Unreachable { address, reason },
        }
    }

    /// What a failure to make a socket means.
    pub(super) fn local(error: &io::Error) -> Self {
        Self::Local { reason: error.to_string() }
    }
}

/// This host ran out of file descriptors, ports or memory.
fn is_shortage(error: &io::Error) -> bool {
    const SHORTAGES: [Errno; 5] =
        [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|errno| SHORTAGES.contains(&Errno::from_raw(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        "192.0.2.1:80".parse().unwrap()
    }

    fn connect(errno: Errno) -> ProbeError {
        ProbeError::connect(address(), Duration::from_millis(500), &errno.into())
    }

    #[test]
    fn messages_say_what_happened_where() {
        let request = "GET http://192.0.2.1/healthz".to_owned();
        let expected = Statuses::parse("200,204").unwrap();
        let status = ProbeError::UnexpectedStatus { request, found: 503, expected };
        assert_eq!(
            status.to_string(),
            "GET http://192.0.2.1/healthz returned status 503 (expected 200 or 204)"
        );
        assert_eq!(
            connect(Errno::ECONNREFUSED).to_string(),
            "192.0.2.1:80 refused the connection: nothing listens there"
        );
        assert_eq!(
            connect(Errno::ETIMEDOUT).to_string(),
            "192.0.2.1:80 did not accept a connection within 500ms"
        );
        assert!(
            connect(Errno::EHOSTUNREACH).to_string().starts_with("192.0.2.1:80 cannot be reached: No route")
        );
        let command = |output: &str| ProbeError::Command {
            command: "/bin/check".into(),
            outcome: "ended with exit status 2".into(),
            output: output.into(),
        };
        assert_eq!(command("").to_string(), "/bin/check ended with exit status 2");
        assert_eq!(command("no disk").to_string(), "/bin/check ended with exit status 2: no disk");
    }

    #[test]
    fn shortages_of_this_host_are_not_held_against_the_backend() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM] {
            assert!(connect(errno).is_local(), "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::ECONNRESET] {
            assert!(!connect(errno).is_local(), "{errno}");
        }
    }
}
