//! Reads `outer_source` of `[agent]`: at most one prefix per family.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::value::{self, Node, Read};
use crate::config::{OuterSource, Problem};

/// The shortest prefixes: bits. Shorter ones are nobody's own.
const SHORTEST_IPV4: u8 = 8;
const SHORTEST_IPV6: u8 = 16;

pub(super) fn read(node: &Node<'_>) -> Read<OuterSource> {
    let prefixes = value::items(node, prefix)?;
    let mut sources = OuterSource::default();
    for (position, prefix) in prefixes.iter().enumerate() {
        let same_family =
            |other: &&Spanned<IpNet>| other.get_ref().addr().is_ipv4() == prefix.get_ref().addr().is_ipv4();
        if let Some(first) = prefixes.iter().take(position).find(same_family) {
            return Err(second_of_family(first, prefix));
        }
        match *prefix.get_ref() {
            IpNet::V4(net) => sources.v4 = Some(net),
            IpNet::V6(net) => sources.v6 = Some(net),
        }
    }
    Ok(sources)
}

fn second_of_family(first: &Spanned<IpNet>, second: &Spanned<IpNet>) -> Problem {
    let family = if second.get_ref().addr().is_ipv4() { "IPv4" } else { "IPv6" };
    Problem::new(format!("{} is a second prefix of {family}", second.get_ref()))
        .advise("write at most one prefix of each family; a shorter one has more addresses")
        .at(second.span())
        .beside(first.span(), "first here")
}

fn prefix(node: &Node<'_>) -> Read<IpNet> {
    let written = value::text(node)?;
    let net: IpNet = written.parse().map_err(|_not_a_prefix| not_a_prefix(written))?;
    if net.trunc() != net {
        return Err(Problem::new(format!("{written} has bits behind the prefix")).advise(format!(
            "write \"{}\", or \"{}\" for one address",
            net.trunc(),
            IpNet::from(net.addr())
        )));
    }
    if let Some((what, _)) = value::refusal(net.addr()) {
        return Err(Problem::new(format!("{written} begins with {what}"))
            .advise("write a prefix of your own network, such as \"10.255.0.0/16\" or \"fd00:1::/64\""));
    }
    let shortest = if net.addr().is_ipv4() { SHORTEST_IPV4 } else { SHORTEST_IPV6 };
    if net.prefix_len() < shortest {
        return Err(Problem::new(format!("the prefix {written} is too short"))
            .advise(format!("write a prefix of your own network, of at least {shortest} bits")));
    }
    Ok(net)
}

fn not_a_prefix(written: &str) -> Problem {
    let advice = match written.parse::<IpAddr>() {
        Ok(address) => format!("say its length: \"{}\" is this one address", IpNet::from(address)),
        Err(_not_an_address) => "write an address and a length, such as \"10.255.0.0/16\"".to_owned(),
    };
    Problem::new(format!("{written:?} is not a prefix")).advise(advice)
}
