//! Single values: from a node of the tree to a type, or a problem. The place and an example are the section's to add.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::section::list;
use crate::config::Problem;
use crate::config::choice::Choice;

/// A value and its place in the text.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// What came of a value.
pub(super) type Read<T> = Result<T, Problem>;

/// The kind of a value, in words.
pub(super) const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn wrong_kind(node: &Node<'_>, expected: &str) -> Problem {
    Problem::new(format!("this is {}, not {expected}", kind(node.get_ref()))).at(node.span())
}

/// Text in quotes.
pub(super) fn text<'n>(node: &'n Node<'_>) -> Read<&'n str> {
    node.get_ref().as_str().ok_or_else(|| wrong_kind(node, "text in quotes"))
}

/// Text in quotes, kept.
pub(super) fn owned_text(node: &Node<'_>) -> Read<String> {
    text(node).map(str::to_owned)
}

/// True or false.
pub(super) fn boolean(node: &Node<'_>) -> Read<bool> {
    node.get_ref().as_bool().ok_or_else(|| wrong_kind(node, "true or false"))
}

/// A list whose elements `read` accepts.
pub(super) fn items<T>(node: &Node<'_>, read: impl Fn(&Node<'_>) -> Read<T>) -> Read<Vec<Spanned<T>>> {
    let array = node.get_ref().as_array().ok_or_else(|| wrong_kind(node, "a list in brackets"))?;
    let placed = |node: &Node<'_>| match read(node) {
        Ok(value) => Ok(Spanned::new(node.span(), value)),
        Err(problem) if problem.span.is_none() => Err(problem.at(node.span())),
        Err(problem) => Err(problem),
    };
    array.iter().map(placed).collect()
}

/// A whole number within `range`; `what` names it in the message.
pub(super) fn number<T>(what: &str, range: RangeInclusive<T>) -> impl Fn(&Node<'_>) -> Read<T>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |node| {
        let written = node.get_ref().as_integer().ok_or_else(|| wrong_kind(node, "a whole number"))?;
        let number = i128::from_str_radix(written.as_str(), written.radix()).ok();
        let fitting =
            number.and_then(|number| T::try_from(number).ok()).filter(|number| range.contains(number));
        fitting.ok_or_else(|| {
            Problem::new(format!("{what} {written} is out of range")).advise(format!(
                "write a number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }
}

/// One of a closed list.
pub(super) fn choice<T: Choice>(what: &str) -> impl Fn(&Node<'_>) -> Read<T> {
    move |node| {
        let written = text(node)?;
        let found = T::all().iter().copied().find(|choice| choice.text() == written);
        found.ok_or_else(|| {
            unknown(what, written, &T::all().iter().map(|choice| choice.text()).collect::<Vec<_>>())
        })
    }
}

/// A word that is not in the list of `allowed`.
pub(super) fn unknown(what: &str, written: &str, allowed: &[&str]) -> Problem {
    let listed = list(allowed).replace('`', "\"");
    let advice =
        if allowed.len() == 1 { format!("the only one is {listed}") } else { format!("one of {listed}") };
    Problem::new(format!("unknown {what} {written:?}")).advise(advice)
}

/// A duration with its unit, within `range`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Node<'_>) -> Read<Duration> {
    move |node| {
        let written = duration_text(node)?;
        let duration = humantime::parse_duration(written)
            .map_err(|error| Problem::new(format!("{written:?} is not a duration: {error}")))
            .map_err(|problem| advise_unit(problem, written))?;
        if range.contains(&duration) { Ok(duration) } else { Err(out_of_range(written, &range)) }
    }
}

fn duration_text<'n>(node: &'n Node<'_>) -> Read<&'n str> {
    match node.get_ref() {
        DeValue::Integer(number) => {
            Err(advise_unit(Problem::new(format!("{number} has no unit")), number.as_str()))
        }
        DeValue::String(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => text(node),
    }
}

fn advise_unit(problem: Problem, written: &str) -> Problem {
    if written.bytes().all(|byte| byte.is_ascii_digit()) && !written.is_empty() {
        problem.advise(format!("say the unit, in quotes: \"{written}ms\" or \"{written}s\""))
    } else {
        problem.advise("write a number and a unit, such as \"500ms\", \"1s\", \"30min\" or \"1h 30min\"")
    }
}

fn out_of_range(written: &str, range: &RangeInclusive<Duration>) -> Problem {
    let shown = |duration: &Duration| humantime::format_duration(*duration).to_string();
    Problem::new(format!("the duration {written:?} is out of range")).advise(format!(
        "write a duration from \"{}\" to \"{}\"",
        shown(range.start()),
        shown(range.end())
    ))
}

/// An IP address that a single host can have on a network.
pub(super) fn address(node: &Node<'_>) -> Read<IpAddr> {
    let written = text(node)?;
    let address = written.parse().map_err(|_not_an_address| bad_address(written))?;
    match refusal(address) {
        Some((what, advice)) => Err(Problem::new(format!("{written} is {what}")).advise(advice)),
        None => Ok(address),
    }
}

fn bad_address(written: &str) -> Problem {
    let advice = if written.contains('/') {
        "write one address, without the length of a prefix".to_owned()
    } else if let Ok(socket) = written.parse::<SocketAddr>() {
        format!("write the address alone, \"{}\"; the port is the service's `port`", socket.ip())
    } else if written.starts_with('[') {
        "write IPv6 addresses without brackets, such as \"2001:db8::10\"".to_owned()
    } else {
        "write an address such as \"203.0.113.10\" or \"2001:db8::10\"; names are not resolved".to_owned()
    };
    Problem::new(format!("{written:?} is not an IP address")).advise(advice)
}

/// An IP address, or a prefix of addresses with the bits behind it 0.
pub(super) fn address_or_prefix(node: &Node<'_>) -> Read<IpNet> {
    let written = text(node)?;
    if !written.contains('/') {
        return address(node).map(IpNet::from);
    }
    let prefix: IpNet = written.parse().map_err(|_not_a_prefix| bad_prefix(written))?;
    if prefix != prefix.trunc() {
        let (whole, one) = (prefix.trunc(), prefix.addr());
        return Err(Problem::new(format!("{written} has bits set behind its prefix"))
            .advise(format!("write the prefix \"{whole}\", or the one address \"{one}\"")));
    }
    let plain = "write a prefix of addresses that single hosts have, such as \"203.0.113.0/24\"";
    match [prefix.network(), prefix.broadcast()].into_iter().find_map(refusal) {
        Some((what, _)) => Err(Problem::new(format!("{written} contains {what}")).advise(plain)),
        None => Ok(prefix),
    }
}

fn bad_prefix(written: &str) -> Problem {
    Problem::new(format!("{written:?} is not a prefix")).advise(
        "write an address and how many of its first bits count, at most 32 or 128: \"203.0.113.0/24\" or \
         \"2001:db8::/64\"",
    )
}

/// Why no packet can be balanced to or from `address`, and what to write instead.
pub(in crate::config) fn refusal(address: IpAddr) -> Option<(&'static str, String)> {
    let plain = "write the address of one host, such as \"203.0.113.10\"".to_owned();
    let mapped = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    match (address, mapped) {
        (_, Some(v4)) => Some(("an IPv4 address written as IPv6", format!("write \"{v4}\""))),
        _ if address.is_unspecified() => Some(("the unspecified address", plain)),
        _ if address.is_multicast() => Some(("a multicast address", plain)),
        _ if address.is_loopback() => Some(("a loopback address", plain)),
        (IpAddr::V4(v4), _) if v4.is_broadcast() => Some(("the broadcast address", plain)),
        (IpAddr::V6(v6), _) if v6.is_unicast_link_local() => {
            Some(("a link-local address, which names no interface", "write a routable address".to_owned()))
        }
        (IpAddr::V4(_) | IpAddr::V6(_), None) => None,
    }
}

/// An absolute path.
pub(super) fn absolute_path(node: &Node<'_>) -> Read<PathBuf> {
    let written = text(node)?;
    if written.contains('\0') {
        return Err(Problem::new("a path has no NUL character"));
    }
    if !written.starts_with('/') {
        return Err(Problem::new(format!("the path {written:?} is relative")));
    }
    Ok(PathBuf::from(written))
}
