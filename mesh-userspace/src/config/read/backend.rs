//! Reads `[[service.backend]]`, and checks the backends of one service against it and each other.

use std::collections::HashMap;

use ipnet::IpNet;
use toml::Spanned;

use super::composition::{self, Split};
use super::quic::{self, Member};
use super::report::Report;
use super::section::{Key, Section};
use super::value;
use crate::config::{Backend, Forward, Problem, Vip, is_address};

/// What backends are behind of, as far as it could be read.
pub(super) struct Behind<'a> {
    pub(super) vip: Option<&'a Spanned<IpNet>>,
    pub(super) forward: Option<&'a Spanned<Forward>>,
}

/// A backend, placed where its address is written.
pub(super) fn backend(mut section: Section<'_, '_>, split: Option<&Spanned<Split>>) -> Option<Member> {
    let address = section.required(Key("address", "\"10.0.1.1\""), value::address);
    let weight = section.or(Key("weight", "100"), value::number("the weight", 0..=u16::MAX), Backend::WEIGHT);
    let port = section.optional(Key("port", "8080"), value::number("the port", 1..=u16::MAX));
    let group = composition::group_of(&mut section, split);
    let priority = composition::priority_of(&mut section);
    let has_id = section.has("server_id");
    let server_ids = section.optional(Key("server_id", "\"0a1b2c\""), quic::server_ids);
    section.finish();
    let address = address?;
    let at = address.span();
    let backend = Backend {
        group,
        priority,
        port: port.map(Spanned::into_inner),
        ..Backend::new(address.into_inner(), weight)
    };
    Some((Spanned::new(at, backend), has_id.then_some(server_ids)))
}

/// Reports backends that appear twice or that the service cannot reach.
pub(super) fn check(backends: &[Member], behind: Behind<'_>, report: &mut Report) {
    let mut seen = HashMap::new();
    for (backend, _) in backends {
        if let Some(first) = seen.insert(backend.get_ref().address, backend.span()) {
            let message = format!(
                "backend {} is already in line {}",
                backend.get_ref().address,
                report.line(first.start, backend.span().start)
            );
            let problem = Problem::new(message)
                .advise("write every backend of a service once; its share is its `weight`");
            report.add(problem.at(backend.span()).beside(first, "first here"));
        }
        if let Some(vip) = behind.vip {
            check_reach(backend, *vip.get_ref(), behind.forward, report);
        }
    }
}

fn check_reach(
    backend: &Spanned<Backend>,
    vip: IpNet,
    forward: Option<&Spanned<Forward>>,
    report: &mut Report,
) {
    let address = backend.get_ref().address;
    if vip.contains(&address) {
        let what = if is_address(vip) { "is the service's VIP" } else { "lies within the service's VIPs" };
        let problem = Problem::new(format!("the backend {address} {what}"))
            .advise("write the address of the backend's own interface, on which it is reached");
        report.add(problem.at(backend.span()));
    }
    if let Some(l2) = forward.filter(|it| *it.get_ref() == Forward::L2 && is_ipv4(vip) != address.is_ipv4()) {
        let problem = Problem::new(format!(
            "the backend {address} is {}, the VIP {} is {}",
            family(address.is_ipv4()),
            Vip(vip),
            family(is_ipv4(vip))
        ))
        .advise(
            "with `forward = \"l2\"` both are of one family; \"ipip\", \"gue\", \"geneve\" and \"nat\" take any pair",
        );
        report.add(problem.at(backend.span()).beside(l2.span(), "packets are not wrapped"));
    }
}

pub(super) const fn is_ipv4(vip: IpNet) -> bool {
    matches!(vip, IpNet::V4(_))
}

pub(super) const fn family(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "IPv4" } else { "IPv6" }
}
