//! Reads sources of `kind = "dns"`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use hickory_proto::rr::Name;
use toml::Spanned;

use crate::config::read::section::{Key, Section};
use crate::config::read::value::{self, Node, Read};
use crate::config::{DnsFamily, DnsLookup, DnsSource, Problem};

/// From what a near server keeps to what nobody would wait for.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(30);

/// From a word that counts at once to one that somebody will have noticed.
const ABSENCES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);

/// A source; `None` after a report.
pub(super) fn source(section: &mut Section<'_, '_>) -> Option<DnsSource> {
    let name = section.required(Key("name", "\"web.example.com\""), name);
    let record = Key("record", "\"SRV\"");
    let record = section.or(record, value::choice("kind of record"), DnsLookup::default());
    let family = section.or(Key("family", "\"ipv4\""), value::choice("family"), DnsFamily::default());
    let servers = section.or(Key("servers", "[\"10.0.0.53\"]"), servers, Vec::new());
    let timeout = section.or(Key("timeout", "\"2s\""), value::duration(TIMEOUTS), DnsSource::TIMEOUT);
    let absent_after = Key("absent_after", "\"1min\"");
    let absent_after = section.or(absent_after, value::duration(ABSENCES), DnsSource::ABSENT_AFTER);
    Some(DnsSource { name: name?.into_inner(), record, family, servers, timeout, absent_after })
}

fn name(node: &Node<'_>) -> Read<String> {
    let written = value::text(node)?;
    if let Ok(address) = written.parse::<IpAddr>() {
        return Err(Problem::new(format!("{address} is an address, not a name"))
            .advise("write addresses as [[service.backend]]"));
    }
    match Name::from_ascii(written) {
        Ok(name) if name.iter().next().is_some() => {
            Ok(written.to_ascii_lowercase().trim_end_matches('.').to_owned())
        }
        Ok(_) | Err(_) => Err(Problem::new(format!("{written:?} is not a name that name servers know"))),
    }
}

fn servers(node: &Node<'_>) -> Read<Vec<SocketAddr>> {
    let servers = value::items(node, server)?;
    if servers.is_empty() {
        return Err(Problem::new("there is no name server to ask")
            .advise("leave the key away to ask those of /etc/resolv.conf"));
    }
    for (position, server) in servers.iter().enumerate() {
        if servers.iter().take(position).any(|before| before.get_ref() == server.get_ref()) {
            let problem = Problem::new(format!("{} is named twice", server.get_ref()));
            return Err(problem.advise("name each server once").at(server.span()));
        }
    }
    Ok(servers.into_iter().map(Spanned::into_inner).collect())
}

fn server(node: &Node<'_>) -> Read<SocketAddr> {
    const ADVICE: &str = "write the address of a name server, with a port unless that is 53: \"10.0.0.53\", \"10.0.0.53:5353\", \
         \"2001:db8::53\" or \"[2001:db8::53]:5353\"";
    let written = value::text(node)?;
    let alone = || Some(SocketAddr::new(written.parse().ok()?, DnsSource::PORT));
    let server = written.parse().ok().or_else(alone);
    let is_host = |server: &SocketAddr| {
        !server.ip().is_unspecified() && !server.ip().is_multicast() && server.port() != 0
    };
    let problem = || Problem::new(format!("{written:?} is no name server's address")).advise(ADVICE);
    server.filter(is_host).ok_or_else(problem)
}
