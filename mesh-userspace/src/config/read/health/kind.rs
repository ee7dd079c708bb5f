//! What a probe does: the kind, and the keys that only some kinds know.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use toml::Spanned;
use toml::de::DeValue;

use super::super::section::{Key, Section};
use super::super::tls::{self, KEYS as TLS};
use super::super::value::{self, Node, Read};
use crate::config::{
    DnsProbe, GrpcProbe, HttpProbe, Method, Pattern, ProbeKind, ProbeName, Problem, Statuses, TlsProtocol,
    UdpProbe,
};

/// The longest datagram that is sent: bytes. Longer ones might be fragmented.
const LONGEST_DATAGRAM: usize = 1200;

/// Within which backends report.
const TTLS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

const HTTP: &[&str] =
    &["method", "path", "host", "headers", "expect", "answer", "answer_regex", "load_header"];
const ANSWER: &[&str] = &["answer", "answer_regex"];

const PADDED: &[&str] = &["padded"];

/// The keys that a kind knows beside those of all kinds.
const fn own_keys(kind: ProbeName) -> &'static [&'static [&'static str]] {
    match kind {
        ProbeName::Tcp => &[],
        ProbeName::Icmp => &[PADDED],
        ProbeName::Http => &[HTTP, PADDED],
        ProbeName::Https => &[HTTP, TLS, PADDED],
        ProbeName::Grpc => &[&["host", "grpc_service", "tls"], TLS],
        ProbeName::Udp => &[&["send", "send_hex"], ANSWER],
        ProbeName::Dns => &[&["query", "record"], ANSWER],
        ProbeName::Command => &[&["command"]],
        ProbeName::Heartbeat => &[&["ttl"]],
    }
}

/// The keys of all kinds that a kind has no use for.
const fn useless_keys(kind: ProbeName) -> &'static [&'static str] {
    match kind {
        ProbeName::Icmp => &["port"],
        ProbeName::Heartbeat => &["to", "port", "interval", "timeout", "rise", "fall"],
        ProbeName::Tcp
        | ProbeName::Http
        | ProbeName::Https
        | ProbeName::Grpc
        | ProbeName::Udp
        | ProbeName::Dns => &[],
        ProbeName::Command => &["to"],
    }
}

pub(super) fn probe_kind(section: &mut Section<'_, '_>) -> Option<ProbeKind> {
    let kind = section.required(Key("kind", "\"tcp\""), value::choice("kind of probe"));
    let Some(kind) = kind.map(Spanned::into_inner) else {
        // Whose the other keys are is not known.
        all_own_keys().for_each(|key| {
            section.place_of(key);
        });
        return None;
    };
    refuse_foreign(kind, section);
    match kind {
        ProbeName::Tcp => Some(ProbeKind::Tcp),
        ProbeName::Http => http(section, false),
        ProbeName::Https => http(section, true),
        ProbeName::Grpc => grpc(section),
        ProbeName::Udp => udp(section),
        ProbeName::Dns => dns(section),
        ProbeName::Icmp => Some(ProbeKind::Icmp),
        ProbeName::Command => {
            let example = Key("command", "[\"/usr/local/bin/check\", \"--quick\"]");
            let (program, arguments) = section.required(example, command)?.into_inner();
            Some(ProbeKind::Command(program, arguments))
        }
        ProbeName::Heartbeat => {
            let ttl = section.required(Key("ttl", "\"10s\""), value::duration(TTLS))?;
            Some(ProbeKind::Heartbeat { ttl: ttl.into_inner() })
        }
    }
}

fn all_own_keys() -> impl Iterator<Item = &'static str> {
    ProbeName::ALL.iter().flat_map(|kind| own_keys(*kind)).flat_map(|keys| *keys).copied()
}

fn refuse_foreign(kind: ProbeName, section: &mut Section<'_, '_>) {
    let knows = |kind: ProbeName, key| own_keys(kind).iter().any(|keys| keys.contains(&key));
    let foreign: std::collections::BTreeSet<_> = all_own_keys().filter(|key| !knows(kind, key)).collect();
    for key in foreign.into_iter().chain(useless_keys(kind).iter().copied()) {
        let Some(place) = section.place_of(key) else { continue };
        let kinds: Vec<_> = ProbeName::ALL.iter().filter(|kind| knows(**kind, key)).collect();
        let others: Vec<_> = kinds.iter().map(|kind| format!("`kind = \"{kind}\"`")).collect();
        let advice = match others.as_slice() {
            [] => "leave it away".to_owned(),
            others => format!("leave it away, or write {}", others.join(" or ")),
        };
        let problem = Problem::new(format!("`{key}` has no meaning for `kind = \"{kind}\"`")).advise(advice);
        section.report().add(problem.at(place));
    }
}

fn http(section: &mut Section<'_, '_>, secure: bool) -> Option<ProbeKind> {
    let method = section.optional(Key("method", "\"GET\""), value::choice("method"));
    let path = section.or(Key("path", "\"/healthz\""), path, HttpProbe::PATH.to_owned());
    let host = section.optional(Key("host", "\"www.example.com\""), host);
    let headers = section.or(Key("headers", "{ accept = \"text/plain\" }"), headers, Vec::new());
    let expect = Statuses::one(HttpProbe::EXPECT);
    let expect = section.or(Key("expect", "\"200-299,304\""), statuses, expect);
    let answer = answer(section);
    let method = method.map_or_else(Method::default, Spanned::into_inner);
    if let (Method::Head, Some(answer)) = (method, &answer) {
        let problem = Problem::new("the answer to a HEAD request has no body")
            .advise("leave `answer` away, or write `method = \"GET\"`");
        section.report().add(problem.at(answer.span()));
    }
    let answer = answer.map(Spanned::into_inner);
    let load_header = section.optional(Key("load_header", "\"x-load\""), header_name);
    let load_header = load_header.map(Spanned::into_inner);
    let host = host.map(Spanned::into_inner);
    let tls = if secure { Some(tls::tls(section, TlsProtocol::Http1, host.as_deref())?) } else { None };
    Some(ProbeKind::Http(HttpProbe { tls, method, path, host, headers, expect, answer, load_header }))
}

fn grpc(section: &mut Section<'_, '_>) -> Option<ProbeKind> {
    let host = section.optional(Key("host", "\"api.example.com\""), host).map(Spanned::into_inner);
    let service = section.or(Key("grpc_service", "\"shop.Cart\""), value::owned_text, String::new());
    let secure = section.or(Key("tls", "true"), value::boolean, false);
    let tls = if secure { Some(tls::tls(section, TlsProtocol::Http2, host.as_deref())?) } else { None };
    if !secure {
        for key in TLS {
            let Some(place) = section.place_of(key) else { continue };
            let problem = Problem::new(format!("`{key}` has no meaning without TLS"));
            section.report().add(problem.advise("leave it away, or write `tls = true`").at(place));
        }
    }
    Some(ProbeKind::Grpc(GrpcProbe { tls, host, service }))
}

fn udp(section: &mut Section<'_, '_>) -> Option<ProbeKind> {
    let text = section.optional(Key("send", "\"PING\""), |node| datagram(value::text(node)?.into()));
    let bytes = section.optional(Key("send_hex", "\"00ff0a\""), hexadecimal);
    let answer = answer(section).map(Spanned::into_inner);
    let send = one_of(("send", text), ("send_hex", bytes), section);
    if send.is_none() && section.place_of("send").is_none() && section.place_of("send_hex").is_none() {
        let problem = Problem::new("`send` is missing in [service.health]")
            .advise("add what the backends answer to, such as `send = \"PING\"`, or `send_hex = \"00ff0a\"`");
        let place = section.span();
        section.report().add(problem.at(place));
    }
    Some(ProbeKind::Udp(UdpProbe { send: send?.into_inner(), answer }))
}

fn dns(section: &mut Section<'_, '_>) -> Option<ProbeKind> {
    let query = section.required(Key("query", "\"www.example.com\""), name);
    let record = section.optional(Key("record", "\"A\""), value::choice("record"));
    let answer = answer(section).map(Spanned::into_inner);
    let record = record.map(Spanned::into_inner).unwrap_or_default();
    Some(ProbeKind::Dns(DnsProbe { query: query?.into_inner(), record, answer }))
}

/// What an answer has to contain: text, or what an expression matches.
fn answer(section: &mut Section<'_, '_>) -> Option<Spanned<Pattern>> {
    let text = section.optional(Key("answer", "\"ok\""), |node| match value::text(node)? {
        "" => Err(Problem::new("every answer contains the empty text").advise("leave `answer` away")),
        text => Ok(Pattern::Text(text.to_owned())),
    });
    let regex = section.optional(Key("answer_regex", "\"^ok$\""), expression);
    one_of(("answer", text), ("answer_regex", regex), section)
}

fn one_of<T>(
    (first, one): (&str, Option<Spanned<T>>),
    (second, other): (&str, Option<Spanned<T>>),
    section: &mut Section<'_, '_>,
) -> Option<Spanned<T>> {
    if let (Some(_), Some(other)) = (&one, &other) {
        let problem = Problem::new(format!("both `{first}` and `{second}` are written"));
        section.report().add(problem.advise("leave one of the two away").at(other.span()));
    }
    one.or(other)
}

fn expression(node: &Node<'_>) -> Read<Pattern> {
    let written = value::text(node)?;
    Pattern::regex(written).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Problem::new(format!("{written:?} is not a regular expression: {reason}"))
            .advise("write one of the crate regex, such as \"^ok$\"; '\\' is doubled, or the text in '…'")
    })
}

fn path(node: &Node<'_>) -> Read<String> {
    let path = value::text(node)?;
    if !path.starts_with('/') {
        return Err(Problem::new(format!("the path {path:?} does not begin with '/'")));
    }
    if let Some(c) = path.chars().find(|&c| !c.is_ascii_graphic() || c == '#') {
        return Err(Problem::new(format!("the path contains {c:?}"))
            .advise("percent-encode it, such as %20 for a space"));
    }
    if path.parse::<hyper::http::uri::PathAndQuery>().is_err() {
        return Err(Problem::new(format!("{path:?} is not a path")));
    }
    Ok(path.to_owned())
}

fn host(node: &Node<'_>) -> Read<String> {
    let host = value::text(node)?;
    if host.parse::<hyper::http::uri::Authority>().is_err() || host.contains('@') {
        return Err(Problem::new(format!("{host:?} is not a host name")));
    }
    Ok(host.to_owned())
}

fn header_name(node: &Node<'_>) -> Read<String> {
    let written = value::text(node)?;
    let name = written.parse::<HeaderName>();
    name.map(|name| name.to_string())
        .map_err(|_not_a_name| Problem::new(format!("{written:?} is not the name of a header")))
}

fn headers(node: &Node<'_>) -> Read<Vec<(String, String)>> {
    let DeValue::Table(table) = node.get_ref() else {
        return Err(Problem::new(format!("this is {}, not a table", value::kind(node.get_ref()))));
    };
    let header = |(name, text): (&Spanned<std::borrow::Cow<'_, str>>, &Node<'_>)| {
        let written = value::text(text).map_err(|problem| problem.at(text.span()))?;
        let bad = |what: &str| Problem::new(format!("{what} of a header")).at(name.span());
        let name: HeaderName = name
            .get_ref()
            .parse()
            .map_err(|_not_a_name| bad(&format!("{:?} is not the name", name.get_ref())))?;
        if matches!(name.as_str(), "host" | "connection" | "content-length" | "transfer-encoding") {
            return Err(bad(&format!("{name:?} is set by the probe itself: it is not one for the table"))
                .advise("leave it away; the host has a key of its own, `host`"));
        }
        HeaderValue::from_str(written)
            .map_err(|_not_a_value| bad(&format!("{written:?} is not the value")))?;
        Ok((name.to_string(), written.to_owned()))
    };
    table.iter().map(header).collect()
}

/// A list of statuses, or text such as `200-299,304`.
fn statuses(node: &Node<'_>) -> Read<Statuses> {
    if let Some(written) = node.get_ref().as_str() {
        return Statuses::parse(written).ok_or_else(|| {
            Problem::new(format!("{written:?} are not statuses"))
                .advise("write statuses and ranges from 100 to 599, such as \"200-299,304\"")
        });
    }
    let statuses = value::items(node, value::number("the status", 100..=599))?;
    let ranges = statuses.into_iter().map(Spanned::into_inner).map(|status| status..=status).collect();
    Statuses::of(ranges).ok_or_else(|| Problem::new("no status would be a success"))
}

fn datagram(bytes: Vec<u8>) -> Read<Vec<u8>> {
    match bytes.len() {
        0..=LONGEST_DATAGRAM => Ok(bytes),
        length => Err(Problem::new(format!("the datagram has {length} bytes"))
            .advise(format!("write at most {LONGEST_DATAGRAM} bytes, which are not fragmented"))),
    }
}

fn hexadecimal(node: &Node<'_>) -> Read<Vec<u8>> {
    let written = value::text(node)?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let (pairs, rest) = written.as_bytes().as_chunks::<2>();
    let is_hexadecimal = rest.is_empty() && written.bytes().all(|c| c.is_ascii_hexdigit());
    let bytes = pairs.iter().map(|pair| byte(pair)).collect::<Option<_>>().filter(|_| is_hexadecimal);
    let problem = || Problem::new(format!("{written:?} is not bytes in hexadecimal digits"));
    datagram(bytes.ok_or_else(problem)?)
}

fn name(node: &Node<'_>) -> Read<String> {
    let written = value::text(node)?;
    match hickory_proto::rr::Name::from_ascii(written) {
        Ok(_) if !written.is_empty() => Ok(written.to_owned()),
        Ok(_) | Err(_) => Err(Problem::new(format!("{written:?} is not a name that name servers know"))),
    }
}

fn command(node: &Node<'_>) -> Read<(PathBuf, Vec<String>)> {
    let words = value::items(node, value::owned_text)?;
    let mut words = words.into_iter();
    let Some(program) = words.next() else {
        return Err(Problem::new("there is no command to run"));
    };
    if !program.get_ref().starts_with('/') {
        let message = format!("the path {:?} is relative", program.get_ref());
        return Err(Problem::new(message).at(program.span()));
    }
    let words: Vec<String> = words.map(Spanned::into_inner).collect();
    if words.iter().chain([program.get_ref()]).any(|word| word.contains('\0')) {
        return Err(Problem::new("a command has no NUL character"));
    }
    Ok((PathBuf::from(program.into_inner()), words))
}
