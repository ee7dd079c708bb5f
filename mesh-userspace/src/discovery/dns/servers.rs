//! Whom to ask: one server after the other, until one answers.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use resolv_conf::ScopedIp;
use tokio::task::spawn_blocking;

use super::answer::{Answer, Reading};
use super::question::Question;
use super::{DnsError, exchange};
use crate::config::DnsSource;

/// Where this host has its name servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Answers that lead from alias to alias end after so many.
const ALIASES: usize = 8;

/// Name servers.
pub(super) struct Servers<'a> {
    source: &'a DnsSource,
    /// Who answered last, and is asked first.
    first: AtomicUsize,
}

impl<'a> Servers<'a> {
    pub(super) const fn new(source: &'a DnsSource) -> Self {
        Self { source, first: AtomicUsize::new(0) }
    }

    /// Asks until somebody answers, and goes on where the answer is an alias only. What any server says counts, unless
    /// it says that it cannot tell.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, DnsError> {
        let servers = self.list().await?;
        let (mut asked, mut longest) = (question.clone(), Duration::MAX);
        for _ in 0..ALIASES {
            match self.ask_in_turn(&servers, &asked).await? {
                Reading::Answer(Answer { said, ttl }) => return Ok(Answer { said, ttl: ttl.min(longest) }),
                Reading::Alias(name, ttl) => (asked.name, longest) = (name, ttl.min(longest)),
            }
        }
        Err(DnsError::Aliases { question: question.to_string() })
    }

    async fn ask_in_turn(&self, servers: &[SocketAddr], question: &Question) -> Result<Reading, DnsError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for (position, server) in servers.iter().enumerate().cycle().skip(first).take(servers.len()) {
            match exchange::ask(*server, question, self.source.timeout).await {
                Ok(answer) => {
                    self.first.store(position, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => failures.push((*server, error)),
            }
        }
        Err(DnsError::Unanswered { question: question.to_string(), failures })
    }

    /// Those that are configured, or those that the host has now.
    async fn list(&self) -> Result<Vec<SocketAddr>, DnsError> {
        if !self.source.servers.is_empty() {
            return Ok(self.source.servers.clone());
        }
        let unreadable = |error| DnsError::Unreadable { file: RESOLV_CONF, error };
        let read = spawn_blocking(|| fs::read(RESOLV_CONF)).await;
        of_host(&read.map_err(|error| unreadable(error.into()))?.map_err(unreadable)?)
    }
}

/// The name servers in the text of a resolv.conf.
pub(super) fn of_host(text: &[u8]) -> Result<Vec<SocketAddr>, DnsError> {
    let file = RESOLV_CONF;
    let content = |reason| DnsError::Content { file, reason };
    let config = resolv_conf::Config::parse(text).map_err(|error| content(error.to_string()))?;
    let servers: Result<Vec<SocketAddr>, DnsError> =
        config.nameservers.iter().map(|server| address(server).map_err(content)).collect();
    servers
        .and_then(|servers| if servers.is_empty() { Err(DnsError::NoServers { file }) } else { Ok(servers) })
}

fn address(server: &ScopedIp) -> Result<SocketAddr, String> {
    match server {
        ScopedIp::V6(address, Some(interface)) => {
            let number = nix::net::if_::if_nametoindex(interface.as_str());
            let number = number.map_err(|error| format!("{server}: {interface}: {error}"))?;
            Ok(SocketAddrV6::new(*address, DnsSource::PORT, 0, number).into())
        }
        ScopedIp::V6(..) | ScopedIp::V4(_) => Ok(SocketAddr::new(IpAddr::from(server), DnsSource::PORT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Result<String, String> {
        let servers = of_host(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_hosts_servers_are_those_of_its_file() {
        let text = "search example.com\n# nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n\
                    nameserver 2001:db8::1\nnameserver fe80::1%lo\n";
        assert_eq!(listed(text).unwrap(), "10.0.0.2:53 [2001:db8::1]:53 [fe80::1%1]:53");
    }

    #[test]
    fn a_file_without_servers_is_an_error() {
        assert!(listed("search example.com\n").unwrap_err().contains("names no name server"));
        assert!(listed("nameserver ten\n").unwrap_err().contains("is not understood"));
        let error = listed("nameserver fe80::1%nosuchlink\n").unwrap_err();
        assert!(error.contains("nosuchlink: "), "{error}");
    }
}
