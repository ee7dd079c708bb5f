//! Reads `[service.nat]`: what packets are translated to.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use super::backend::{family, is_ipv4};
use super::quic::Member;
use super::report::Report;
use super::section::{Key, Section};
use super::service;
use super::value::{self, Node, Read};
use crate::config::{Forward, Health, Nat, NatSource, Ports, ProbeTo, Problem, Protocol, Tracking};

/// What is translated to.
pub(super) fn nat(mut section: Section<'_, '_>) -> Nat {
    let source = section.or(Key("source", "\"auto\""), source, NatSource::default());
    let ports = section.optional(Key("ports", "\"1024-65535\""), service::ports);
    let port = section.optional(Key("port", "8080"), value::number("the port", 1..=u16::MAX));
    if let (NatSource::Keep, Some(ports)) = (&source, &ports) {
        let problem = Problem::new("`ports` has no meaning for `source = \"keep\"`")
            .advise("leave `ports` away: packets come from the client's own port, unless another has it");
        section.report().add(problem.at(ports.span()));
    }
    section.finish();
    let usual = match source {
        NatSource::Auto => Nat::SHARED_PORTS,
        NatSource::Keep | NatSource::Addresses(_) => Nat::OWN_PORTS,
    };
    Nat { source, ports: ports.map_or(usual, Spanned::into_inner), port: port.map(Spanned::into_inner) }
}

fn source(node: &Node<'_>) -> Read<NatSource> {
    match node.get_ref().as_str() {
        Some("auto") => return Ok(NatSource::Auto),
        Some("keep") => return Ok(NatSource::Keep),
        Some(written) => {
            return Err(value::unknown("source", written, &["auto", "keep"])
                .advise("write \"auto\", \"keep\", or a list of addresses such as [\"192.0.2.7\"]"));
        }
        None => {}
    }
    let written = value::items(node, value::address)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in written {
        let place = address.span();
        let address = address.into_inner();
        if addresses.contains(&address) {
            return Err(Problem::new(format!("{address} stands twice")).advise("write it once").at(place));
        }
        if addresses.iter().filter(|known| known.is_ipv4() == address.is_ipv4()).count() == Nat::SOURCES {
            return Err(Problem::new(format!(
                "there are more than {} {} addresses",
                Nat::SOURCES,
                family(address.is_ipv4())
            ))
            .advise("each has 64,512 ports towards each backend")
            .at(place));
        }
        addresses.push(address);
    }
    if addresses.is_empty() {
        return Err(Problem::new("there is no address").advise("write \"auto\", \"keep\", or an address"));
    }
    Ok(NatSource::Addresses(addresses))
}

/// What a service that is translated must be, as far as it could be read.
pub(super) struct Said<'a> {
    pub(super) forward: Option<&'a Spanned<Forward>>,
    pub(super) vip: Option<&'a Spanned<IpNet>>,
    pub(super) protocol: Option<&'a Spanned<Protocol>>,
    pub(super) tracking: Option<&'a Spanned<Tracking>>,
    pub(super) window: Option<&'a Spanned<Duration>>,
    pub(super) ports: Option<&'a Spanned<Ports>>,
    pub(super) health: Option<&'a Spanned<Health>>,
    pub(super) members: &'a [Member],
}

impl Said<'_> {
    /// Whether packets are translated.
    pub(super) fn is_translated(&self) -> bool {
        self.forward.is_some_and(|forward| *forward.get_ref() == Forward::Nat)
    }
}

/// Whether the service is translated, and that it can be.
pub(super) fn check(nat: Option<&Spanned<Nat>>, said: &Said<'_>, report: &mut Report) {
    let Some(forward) = said.forward else { return };
    if *forward.get_ref() == Forward::Nat {
        check_translated(nat, said, forward, report);
        return;
    }
    let way = *forward.get_ref();
    if let Some(nat) = nat {
        let problem = Problem::new(format!("[service.nat] has no meaning for `forward = \"{way}\"`"))
            .advise("leave [service.nat] away, or write `forward = \"nat\"`");
        report.add(problem.at(nat.span()).beside(forward.span(), "packets are not translated"));
    }
    for (backend, _) in said.members.iter().filter(|(backend, _)| backend.get_ref().port.is_some()) {
        let problem = Problem::new(format!("a backend's `port` has no meaning for `forward = \"{way}\"`"))
            .advise("leave `port` away, or write `forward = \"nat\"`");
        report.add(problem.at(backend.span()).beside(forward.span(), "packets keep their port"));
    }
}

fn check_translated(
    nat: Option<&Spanned<Nat>>,
    said: &Said<'_>,
    forward: &Spanned<Forward>,
    report: &mut Report,
) {
    if let Some(protocol) = said.protocol.filter(|it| *it.get_ref() == Protocol::Any) {
        let problem = Problem::new("packets without ports cannot be translated")
            .advise("write the protocol \"tcp\", \"udp\" or \"quic\", or another `forward`");
        report.add(problem.at(protocol.span()).beside(forward.span(), "packets are translated"));
    }
    if let Some(tracking) = said.tracking {
        let problem = Problem::new("`tracking` has no meaning for `forward = \"nat\"`")
            .advise("leave it away: every connection is known until it ends");
        report.add(problem.at(tracking.span()).beside(forward.span(), "packets are translated"));
    }
    if let Some(window) = said.window {
        let problem = Problem::new("`window` has no meaning for `forward = \"nat\"`")
            .advise("leave it away: connections keep their backend whatever becomes of their slot");
        report.add(problem.at(window.span()).beside(forward.span(), "packets are translated"));
    }
    if let Some(health) = said.health.filter(|it| it.get_ref().to == ProbeTo::Vip) {
        let problem = Problem::new("backends behind a translation do not know the VIP")
            .advise("leave `to` away: they are probed at their own addresses");
        report.add(problem.at(health.span()).beside(forward.span(), "packets are translated"));
    }
    let Some(nat) = nat else { return };
    let one = nat.get_ref().port.is_some();
    if let Some(ports) = said.ports.filter(|ports| one && ports.get_ref().single().is_none()) {
        let problem = Problem::new("one port at the backends stands for several of the service")
            .advise("leave `port` in [service.nat] away, or write a service for each port");
        report.add(problem.at(nat.span()).beside(ports.span(), "these"));
    }
    let Some(vip) = said.vip else { return };
    let odd = said.members.iter().find(|(it, _)| it.get_ref().address.is_ipv4() != is_ipv4(*vip.get_ref()));
    if let (NatSource::Keep, Some((backend, _))) = (&nat.get_ref().source, odd) {
        let problem = Problem::new(format!(
            "the backend {} is {}, and clients have {} addresses that cannot be kept",
            backend.get_ref().address,
            family(backend.get_ref().address.is_ipv4()),
            family(is_ipv4(*vip.get_ref()))
        ))
        .advise("write `source = \"auto\"`, or backends of the VIP's family");
        report.add(problem.at(backend.span()).beside(nat.span(), "addresses are kept"));
    }
}
