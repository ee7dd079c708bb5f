//! Reads `[[service]]`: what one service can tell of itself.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;

use super::backend::{self, Behind};
use super::report::Report;
use super::section::{Key, Section};
use super::value::{self, Node, Read};
use super::{composition, discovery, guard, health, nat, performance, quic, tracking};
use crate::config::table::{is_prime, next_prime};
use crate::config::{Forward, Health, OnNoBackends, Oversized, Ports, Problem, Protocol, Service};

/// From the shortest that a packet's way may take to longer than any host keeps a silent connection.
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// From long enough for a client that waits to what the time of a record, which wraps after 19 hours, can tell.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(18 * 3600);

/// Longest name: bytes. Names are metric labels and command line arguments.
pub(super) const NAME_BYTES: usize = 63;

/// A valid service and where its parts are written.
pub(super) struct Placed {
    pub(super) service: Service,
    pub(super) header: Range<usize>,
    pub(super) name: Range<usize>,
    pub(super) vip: Range<usize>,
    pub(super) ports: Range<usize>,
    pub(super) table_size: Option<Range<usize>>,
    pub(super) backends: Vec<Range<usize>>,
    /// Of each of the service's sources.
    pub(super) sources: Vec<Range<usize>>,
}

pub(super) fn service(mut section: Section<'_, '_>) -> Option<Placed> {
    let name = section.required(Key("name", "\"web\""), name);
    let vip = section.required(Key("vip", "\"203.0.113.10\""), value::address_or_prefix);
    let ports = section.required(Key("port", "80"), ports);
    let protocol = section.required(Key("protocol", "\"tcp\""), value::choice("protocol"));
    let scheduler = section.optional(Key("scheduler", "\"maglev\""), value::choice("scheduler"));
    let max_flows = section.optional(Key("max_flows", "10000"), count("the number of flows"));
    let flood_threshold = section.optional(Key("flood_threshold", "20000"), count("the number of new flows"));
    let forward = section.required(Key("forward", "\"ipip\""), value::choice("way to forward"));
    let tunnel_port = section.optional(Key("tunnel_port", "6080"), value::number("the port", 1..=u16::MAX));
    let on_no_backends =
        section.or(Key("on_no_backends", "\"drop\""), value::choice("treatment"), OnNoBackends::default());
    let oversized =
        section.or(Key("oversized", "\"drop\""), value::choice("treatment"), Oversized::default());
    let tracking = section.optional(Key("tracking", "\"adaptive\""), value::choice("tracking"));
    let idle_timeout = section.optional(Key("idle_timeout", "\"30min\""), value::duration(IDLE));
    let window = section.optional(Key("window", "\"30min\""), value::duration(WINDOWS));
    let table_size = section.optional(Key("table_size", "65521"), table_size);
    let expected = section.optional(Key("expected_backends", "10"), count("the number of backends"));
    let health::Said { probes: health, passive } =
        section.section("health").map(health::health).unwrap_or_default();
    let performance = section.section("performance").and_then(performance::performance);
    let guard = section.section("guard").map(guard::guard);
    let nat = section.section("nat").map(|section| Spanned::new(section.span(), nat::nat(section)));
    let configs = section.sections("quic", |section| Some(quic::config(section)));
    let split = composition::split_of(&mut section);
    let percentage = value::number("the percentage", 0..=100);
    let spill_over_below = section.or(Key("spill_over_below", "70"), percentage, 0);
    let backends = section.sections("backend", |section| backend::backend(section, split.as_ref()));
    let sources = section.sections("discovery", |section| discovery::discovery(section, split.as_ref()));
    let header = section.span();
    backend::check(&backends, Behind { vip: vip.as_ref(), forward: forward.as_ref() }, section.report());
    check_tunnel_port(tunnel_port.as_ref(), forward.as_ref(), section.report());
    check_table_size(table_size.as_ref(), backends.len(), section.report());
    check_expected(expected.as_ref(), table_size.as_ref(), backends.len(), section.report());
    let recording = tracking::Asked { scheduler: scheduler.as_ref(), max_flows: max_flows.as_ref() };
    let said = nat::Said {
        forward: forward.as_ref(),
        vip: vip.as_ref(),
        protocol: protocol.as_ref(),
        tracking: tracking.as_ref(),
        window: window.as_ref(),
        ports: ports.as_ref(),
        health: health.as_ref(),
        members: &backends,
    };
    nat::check(nat.as_ref(), &said, section.report());
    let is_translated = said.is_translated();
    let tracking = tracking::of(tracking.as_ref(), recording, is_translated, section.report());
    tracking::check_idle(idle_timeout.as_ref(), protocol.as_ref(), is_translated, section.report());
    check_protocol(protocol.as_ref(), ports.as_ref(), section.report());
    check_health(health.as_ref(), ports.as_ref(), section.report());
    performance::check(performance.as_ref(), health.as_ref(), section.report());
    health::passive::check(passive.as_ref(), protocol.as_ref(), forward.as_ref(), section.report());
    let said =
        quic::Said { protocol: protocol.as_ref(), header: header.clone(), configs, members: &backends };
    let quic = quic::assigned(said, section.report());
    discovery::check(&sources, protocol.as_ref(), section.report());
    let groups = backends.iter().map(|(backend, _)| &backend.get_ref().group);
    let groups = groups.chain(sources.iter().map(|source| &source.get_ref().group));
    composition::check(split.as_ref(), groups, section.report());
    section.finish();

    let (name, vip, ports, protocol) = (name?, vip?, ports?, protocol?.into_inner());
    let placed = Placed {
        header,
        name: name.span(),
        vip: vip.span(),
        ports: ports.span(),
        table_size: table_size.as_ref().map(Spanned::span),
        backends: backends.iter().map(|(backend, _)| backend.span()).collect(),
        sources: sources.iter().map(Spanned::span).collect(),
        service: Service {
            name: name.into_inner(),
            vip: vip.into_inner(),
            ports: ports.into_inner(),
            protocol,
            scheduler: scheduler.map(Spanned::into_inner).unwrap_or_default(),
            forward: forward?.into_inner(),
            tunnel_port: tunnel_port.map(Spanned::into_inner),
            oversized,
            on_no_backends,
            tracking,
            window: window.map_or_else(|| protocol.default_window(), Spanned::into_inner),
            max_flows: max_flows.map(Spanned::into_inner),
            flood_threshold: flood_threshold.map(Spanned::into_inner),
            idle_timeout: idle_timeout.map(Spanned::into_inner),
            table_size: table_size.map(Spanned::into_inner),
            expected_backends: expected.map(Spanned::into_inner),
            health: health.map(Spanned::into_inner),
            passive: passive.map(Spanned::into_inner),
            performance: performance.map(Spanned::into_inner),
            split: composition::shares(split),
            spill_over_below,
            backends: backends.into_iter().map(|(backend, _)| backend.into_inner()).collect(),
            discovery: sources.into_iter().map(Spanned::into_inner).collect(),
            quic,
            nat: is_translated.then(|| nat.map(Spanned::into_inner).unwrap_or_default()),
            guard,
        },
    };
    Some(placed)
}

fn count(what: &'static str) -> impl Fn(&Node<'_>) -> Read<u32> {
    value::number(what, 1..=u32::MAX)
}

fn name(node: &Node<'_>) -> Read<String> {
    let name = value::text(node)?;
    if !is_name(name) {
        return Err(Problem::new(format!("{name:?} is not a service's name"))
            .advise(format!("write 1 to {NAME_BYTES} letters, digits, '-', '_' or '.', such as \"web\"")));
    }
    Ok(name.to_owned())
}

/// Whether something may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_BYTES).contains(&name.len()) && name.chars().all(fits)
}

/// A port, a range of ports, or all.
pub(super) fn ports(node: &Node<'_>) -> Read<Ports> {
    match node.get_ref().as_str() {
        None => value::number("the port", 1..=u16::MAX)(node).map(Ports::one),
        Some("any") => Ok(Ports::ANY),
        Some(written) => range(written),
    }
}

fn range(written: &str) -> Read<Ports> {
    let one = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    if one(written).is_some() {
        return Err(Problem::new(format!("the port {written:?} is text, not a number"))
            .advise("write it without quotes"));
    }
    let ends = written.split_once('-').and_then(|(first, last)| Some((one(first)?, one(last)?)));
    let Some((first, last)) = ends else {
        return Err(Problem::new(format!("{written:?} is neither a port nor a range of ports")).advise(
            "write a number from 1 to 65535, such as `port = 80`, a range such as \"8000-8100\", or \"any\"",
        ));
    };
    Ports::range(first, last).filter(|ports| ports.single().is_none()).ok_or_else(|| {
        let advice = if first == last { first.to_string() } else { format!("\"{last}-{first}\"") };
        Problem::new(format!("the range of ports {written:?} does not rise"))
            .advise(format!("write `port = {advice}`"))
    })
}

fn table_size(node: &Node<'_>) -> Read<u32> {
    let size = value::number("the table size", 2..=u32::MAX)(node)?;
    if !is_prime(size) {
        return Err(Problem::new(format!("the table size {size} is not a prime"))
            .advise(format!("the next prime is {}", next_prime(size))));
    }
    Ok(size)
}

/// Only what is wrapped in UDP has a port.
fn check_tunnel_port(port: Option<&Spanned<u16>>, forward: Option<&Spanned<Forward>>, report: &mut Report) {
    let (Some(port), Some(forward)) = (port, forward) else { return };
    let way = *forward.get_ref();
    if matches!(way, Forward::L2 | Forward::Ipip | Forward::Nat) {
        let problem = Problem::new(format!("`tunnel_port` has no meaning for `forward = \"{way}\"`"))
            .advise("leave `tunnel_port` away, or write `forward = \"gue\"` or `forward = \"geneve\"`");
        report.add(problem.at(port.span()).beside(forward.span(), "packets are not wrapped in UDP"));
    }
}

fn check_table_size(size: Option<&Spanned<u32>>, backends: usize, report: &mut Report) {
    let Some(size) = size else { return };
    if usize::try_from(*size.get_ref()).is_ok_and(|slots| slots < backends) {
        let problem =
            Problem::new(format!("the table size {size} is smaller than the number of backends, {backends}"))
                .advise("leave `table_size` away, or write a prime of at least 100 slots per backend");
        report.add(problem.at(size.span()));
    }
}

fn check_expected(
    expected: Option<&Spanned<u32>>,
    size: Option<&Spanned<u32>>,
    backends: usize,
    report: &mut Report,
) {
    let Some(expected) = expected else { return };
    if let Some(size) = size {
        let problem = Problem::new("`expected_backends` has no meaning beside `table_size`")
            .advise("leave one of the two away");
        report.add(problem.at(expected.span()).beside(size.span(), "this is the size"));
    }
    if usize::try_from(*expected.get_ref()).is_ok_and(|expected| expected < backends) {
        let message =
            format!("`expected_backends` is {}, and there are {backends} backends", expected.get_ref());
        let problem = Problem::new(message)
            .advise("write how many there may be in the service's life, or leave it away");
        report.add(problem.at(expected.span()));
    }
}

/// Protocols without ports are balanced by address alone.
fn check_protocol(protocol: Option<&Spanned<Protocol>>, ports: Option<&Spanned<Ports>>, report: &mut Report) {
    let (Some(protocol), Some(ports)) = (protocol, ports) else { return };
    if *protocol.get_ref() == Protocol::Any && *ports.get_ref() != Ports::ANY {
        let problem = Problem::new(format!("not every protocol has the port {}", ports.get_ref()))
            .advise("write `port = \"any\"`, or the protocol \"tcp\" or \"udp\"");
        report.add(problem.at(ports.span()).beside(protocol.span(), "for every protocol"));
    }
}

/// A service of many ports does not say which one is to be probed.
fn check_health(health: Option<&Spanned<Health>>, ports: Option<&Spanned<Ports>>, report: &mut Report) {
    let (Some(health), Some(ports)) = (health, ports) else { return };
    let needed = health.get_ref().kind.needs_port() && health.get_ref().port.is_none();
    if needed && ports.get_ref().single().is_none() {
        let problem =
            Problem::new("`port` is missing in [service.health], and the service has more than one")
                .advise("add the port that the backends are probed on, such as `port = 8080`");
        report.add(problem.at(health.span()).beside(ports.span(), "which of these?"));
    }
}
