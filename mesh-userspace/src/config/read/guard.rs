//! Reads `[service.guard]`: whom a service serves.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use toml::Spanned;

use super::report::Report;
use super::section::{Key, Section};
use super::value::{self, Node, Read};
use crate::config::{Admittance, Problem, Rules};

/// Prefixes, and where the first of them is written.
type Placed = BTreeMap<IpNet, (Admittance, Range<usize>)>;

/// Whom the service serves.
pub(super) fn guard(mut section: Section<'_, '_>) -> Arc<Rules> {
    let others = section.or(Key("default", "\"allow\""), value::choice("verdict"), Admittance::default());
    let mut placed = Placed::new();
    for (access, list, file) in [
        (Admittance::Allow, Key("allow", LIST), Key("allow_file", "\"/etc/meshlb/allow.txt\"")),
        (Admittance::Deny, Key("deny", LIST), Key("deny_file", "\"/etc/meshlb/deny.txt\"")),
    ] {
        let listed = section.optional(list, |node| value::items(node, |item| prefix(value::text(item)?)));
        for net in listed.map(Spanned::into_inner).into_iter().flatten() {
            let place = net.span();
            add(&mut placed, net.into_inner(), access, &place, section.report());
        }
        let filed = section.optional(file, prefixes_of_file);
        let Some(filed) = filed else { continue };
        let place = filed.span();
        for net in filed.into_inner() {
            add(&mut placed, net, access, &place, section.report());
        }
    }
    section.finish();
    let prefixes = placed.into_iter().map(|(net, (access, _))| (net, access)).collect();
    Arc::new(Rules { others, prefixes })
}

const LIST: &str = "[\"198.51.100.0/24\", \"2001:db8::7\"]";

/// Nobody can be let in and kept out by the same word.
fn add(placed: &mut Placed, net: IpNet, access: Admittance, place: &Range<usize>, report: &mut Report) {
    let (known, before) = placed.entry(net).or_insert_with(|| (access, place.clone()));
    if *known != access {
        let problem = Problem::new(format!("{net} is allowed and denied"))
            .advise("leave it in one of the two; the longest prefix that a client is in decides");
        report.add(problem.at(place.clone()).beside(before.clone(), "allowed here"));
    }
}

/// An address or a prefix of clients.
fn prefix(written: &str) -> Read<IpNet> {
    let net = match written.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_not_an_address) => written.parse().map_err(|_not_a_prefix| {
            Problem::new(format!("{written:?} is neither an address nor a prefix"))
                .advise("write for example \"198.51.100.0/24\" or \"2001:db8::7\"")
        })?,
    };
    if let IpNet::V6(v6) = net
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(Problem::new(format!("{written:?} are IPv4 addresses written as IPv6"))
            .advise("write them as IPv4 addresses"));
    }
    if net != net.trunc() {
        return Err(Problem::new(format!("{written:?} has bits behind the prefix"))
            .advise(format!("write \"{}\"", net.trunc())));
    }
    Ok(net)
}

/// The prefixes in a file: one in a line, nothing behind `#`.
fn prefixes_of_file(node: &Node<'_>) -> Read<Vec<IpNet>> {
    let path = value::absolute_path(node)?;
    let text = fs::read_to_string(&path).map_err(|error| {
        Problem::new(format!("{} cannot be read: {error}", path.display()))
            .advise("write addresses and prefixes into it, one in a line")
    })?;
    let lines = (1..).zip(text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()));
    let prefixes = lines.filter(|(_, line)| !line.is_empty()).map(|(number, line)| {
        prefix(line).map_err(|problem| {
            let message = format!("line {number} of {}: {}", path.display(), problem.message());
            Problem::new(message).advise(problem.advice())
        })
    });
    prefixes.collect()
}
