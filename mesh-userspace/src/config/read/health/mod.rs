//! Reads `[service.health]`.

mod kind;
pub(super) mod passive;

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::section::{Key, Section};
use super::value;
use crate::config::{Correlated, Damping, Health, Passive, ProbeTo, Probing, Problem};

/// From what does not flood a backend to what still notices an outage on the same day.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

/// From what evens out a moment's rush to what nobody would wait for.
const SLOW_STARTS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// Times of damping: longer than an interval between probes, shorter than anybody remembers.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// Of one there is no correlation.
const LEAST: RangeInclusive<usize> = 2..=100_000;

/// From what a shared cause takes to show to what is none any more.
const WINDOWS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Nobody trusts dead probes for longer than a day.
const HOLDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Each has a descriptor or a few, of which processes have a million at most.
const AT_ONCE: RangeInclusive<u32> = 1..=100_000;

/// Reads `[health]`.
pub(super) fn probing(mut section: Section<'_, '_>) -> Probing {
    let default = Probing::default();
    let at_once =
        section.or(Key("at_once", "512"), value::number("the number of probes", AT_ONCE), default.at_once);
    let mark = section.or(Key("mark", "109"), value::number("the mark", 1..=u32::MAX), default.mark);
    let correlated = section.section("correlated").map(correlated).unwrap_or_default();
    section.finish();
    Probing { at_once, mark, correlated }
}

/// Reads `[health.correlated]`.
fn correlated(mut section: Section<'_, '_>) -> Correlated {
    let default = Correlated::default();
    let action = section.or(Key("action", "\"hold\""), value::choice("action"), default.action);
    let share = section.or(Key("share", "60"), value::number("the percentage", 1..=100), default.share);
    let least = section.or(Key("least", "3"), value::number("the number of backends", LEAST), default.least);
    let window = section.or(Key("window", "\"5s\""), value::duration(WINDOWS), default.window);
    let hold_for = section.or(Key("hold_for", "\"1min\""), value::duration(HOLDS), default.hold_for);
    section.finish();
    Correlated { action, share, least, window, hold_for }
}

/// What a service says of its backends' health.
#[derive(Default)]
pub(super) struct Said {
    /// How they are probed.
    pub(super) probes: Option<Spanned<Health>>,
    /// What becomes of those that fail clients.
    pub(super) passive: Option<Spanned<Passive>>,
}

/// Reads `[service.health]`, which may say of nothing but what becomes of those that fail clients.
pub(super) fn health(mut section: Section<'_, '_>) -> Said {
    let place = section.span();
    let probed = !section.has_only("passive");
    let passive =
        section.section("passive").map(|section| Spanned::new(section.span(), passive::passive(section)));
    let probes = probed.then(|| probes(section)).flatten().map(|probes| Spanned::new(place, probes));
    Said { probes, passive }
}

fn probes(mut section: Section<'_, '_>) -> Option<Health> {
    let kind = kind::probe_kind(&mut section);
    let to = section.or(Key("to", "\"vip\""), value::choice("aim of a probe"), ProbeTo::Address);
    let padded = padded(&mut section, to);
    let port = section.optional(Key("port", "8080"), value::number("the port", 1..=u16::MAX));
    let interval = section.or(Key("interval", "\"1s\""), value::duration(INTERVALS), Health::INTERVAL);
    let timeout = timeout(&mut section, interval);
    let rise = section.or(Key("rise", "2"), value::number("rise", 1..=u32::MAX), Health::RISE);
    let fall = section.or(Key("fall", "3"), value::number("fall", 1..=u32::MAX), Health::FALL);
    let panic_threshold =
        section.or(Key("panic_threshold", "50"), value::number("the percentage", 0..=100), 0);
    let slow_start = section.or(Key("slow_start", "\"30s\""), value::duration(SLOW_STARTS), Duration::ZERO);
    let damping = section.section("damping").and_then(damping);
    section.finish();
    Some(Health {
        kind: kind?,
        to,
        padded,
        port: port.map(Spanned::into_inner),
        interval,
        timeout,
        rise,
        fall,
        panic_threshold,
        slow_start,
        damping,
    })
}

/// Whether packets are padded, which takes the way of the service's own.
fn padded(section: &mut Section<'_, '_>, to: ProbeTo) -> bool {
    let padded = section.optional(Key("padded", "true"), value::boolean);
    if let (Some(padded), ProbeTo::Address) = (&padded, to) {
        let problem = Problem::new("only probes to the VIP are padded").advise("add `to = \"vip\"`");
        section.report().add(problem.at(padded.span()));
    }
    padded.is_some_and(Spanned::into_inner)
}

/// Reads `[service.health.damping]`.
fn damping(mut section: Section<'_, '_>) -> Option<Damping> {
    let falls = section.required(Key("falls", "3"), value::number("the number of falls", 2..=1000));
    let within = section.or(Key("within", "\"10min\""), value::duration(TIMES), Damping::WITHIN);
    let hold = section.or(Key("hold", "\"2min\""), value::duration(TIMES), Damping::HOLD);
    section.finish();
    Some(Damping { falls: falls?.into_inner(), within, hold })
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
