//! Reads `[service.health]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::section::{Key, Section};
use super::value::{self, Node, Read};
use crate::config::{Health, ProbeKind, Problem};

/// From what does not flood a backend to what still notices an outage on the same day.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

pub(super) fn health(mut section: Section<'_, '_>) -> Option<Health> {
    let kind = probe_kind(&mut section);
    let port = section.optional(Key("port", "8080"), value::number("the port", 1..=u16::MAX));
    let interval = section.or(Key("interval", "\"1s\""), value::duration(INTERVALS), Health::INTERVAL);
    let timeout = timeout(&mut section, interval);
    let rise = section.or(Key("rise", "2"), value::number("rise", 1..=u32::MAX), Health::RISE);
    let fall = section.or(Key("fall", "3"), value::number("fall", 1..=u32::MAX), Health::FALL);
    let panic_threshold =
        section.or(Key("panic_threshold", "50"), value::number("the percentage", 0..=100), 0);
    section.finish();
    Some(Health {
        kind: kind?,
        port: port.map(Spanned::into_inner),
        interval,
        timeout,
        rise,
        fall,
        panic_threshold,
    })
}

/// The timeout, by default the usual one or the interval if that is shorter.
fn timeout(section: &mut Section<'_, '_>, interval: Duration) -> Duration {
    let default = Health::TIMEOUT.min(interval);
    let Some(timeout) = section.optional(Key("timeout", "\"500ms\""), value::duration(TIMEOUTS)) else {
        return default;
    };
    if *timeout.get_ref() > interval {
        let interval = humantime::format_duration(interval);
        let problem = Problem::new(format!("the timeout is longer than the interval, {interval}"))
            .advise(format!("write at most \"{interval}\", or a longer `interval`"));
        section.report().add(problem.at(timeout.span()));
    }
    timeout.into_inner()
}

fn probe_kind(section: &mut Section<'_, '_>) -> Option<ProbeKind> {
    let kind = section.required(Key("kind", "\"tcp\""), value::owned_text);
    let path = section.optional(Key("path", "\"/healthz\""), path);
    let host = section.optional(Key("host", "\"www.example.com\""), host);
    let expect = section.optional(Key("expect", "[200]"), expect);
    let kind = kind?;
    match kind.get_ref().as_str() {
        "http" => Some(http(path, host, expect)),
        "tcp" => {
            let foreign = [span("path", path), span("host", host), span("expect", expect)];
            foreign.into_iter().flatten().for_each(|it| section.report().add(only_http(it)));
            Some(ProbeKind::Tcp)
        }
        other => {
            section.report().add(value::unknown("kind of probe", other, &["tcp", "http"]).at(kind.span()));
            None
        }
    }
}

fn http(
    path: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    expect: Option<Spanned<Vec<u16>>>,
) -> ProbeKind {
    ProbeKind::Http {
        path: path.map_or_else(|| ProbeKind::PATH.to_owned(), Spanned::into_inner),
        host: host.map(Spanned::into_inner),
        expect: expect.map_or_else(|| vec![ProbeKind::EXPECT], Spanned::into_inner),
    }
}

fn span<T>(key: &'static str, value: Option<Spanned<T>>) -> Option<Spanned<&'static str>> {
    value.map(|value| Spanned::new(value.span(), key))
}

fn only_http(key: Spanned<&'static str>) -> Problem {
    Problem::new(format!("`{}` has no meaning for TCP probes", key.get_ref()))
        .advise("leave it away, or write `kind = \"http\"`")
        .at(key.span())
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
    Ok(path.to_owned())
}

fn host(node: &Node<'_>) -> Read<String> {
    let host = value::text(node)?;
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Problem::new(format!("{host:?} is not a host name")));
    }
    Ok(host.to_owned())
}

fn expect(node: &Node<'_>) -> Read<Vec<u16>> {
    let statuses = value::items(node, value::number("the status", 100..=599))?;
    if statuses.is_empty() {
        return Err(Problem::new("no status would be a success"));
    }
    Ok(statuses.into_iter().map(Spanned::into_inner).collect())
}
