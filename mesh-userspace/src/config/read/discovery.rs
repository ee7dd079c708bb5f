//! Reads `[[service.discovery]]`. Which keys there are depends on the kind.

mod dns;
mod kubernetes;
mod registry;

pub(super) use registry::otlp;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use toml::Spanned;

use super::composition::{self, Split};
use super::report::Report;
use super::section::{Key, Section};
use super::service::Placed;
use super::{service, value};
use crate::config::{
    Backend, Discovery, DiscoveryKind, DiscoverySource, EtcdSource, FileSource, Problem, Protocol,
    ServicesFrom, ServicesKind,
};

/// A source, placed where it begins.
pub(super) fn discovery(
    mut section: Section<'_, '_>,
    split: Option<&Spanned<Split>>,
) -> Option<Spanned<Discovery>> {
    let kind = section.required(Key("kind", "\"file\""), value::choice("kind of source"));
    let ports = section.optional(Key("port", "8080"), service::ports);
    let weight = section.or(Key("weight", "100"), value::number("the weight", 0..=u16::MAX), Backend::WEIGHT);
    let group = composition::group_of(&mut section, split);
    let priority = composition::priority_of(&mut section);
    // Without the kind nobody knows which of the other keys are right.
    let source = match kind?.into_inner() {
        DiscoveryKind::File => file(&mut section).map(DiscoverySource::File),
        DiscoveryKind::Dns => dns::source(&mut section).map(DiscoverySource::Dns),
        DiscoveryKind::Kubernetes => kubernetes::source(&mut section).map(DiscoverySource::Kubernetes),
        DiscoveryKind::Consul => registry::consul(&mut section).map(DiscoverySource::Consul),
        DiscoveryKind::Etcd => registry::etcd(&mut section).map(DiscoverySource::Etcd),
        DiscoveryKind::Eureka => registry::eureka(&mut section).map(DiscoverySource::Eureka),
    };
    let at = section.span();
    section.finish();
    let ports = ports.map(Spanned::into_inner);
    Some(Spanned::new(at, Discovery { source: source?, ports, weight, group, priority }))
}

/// Reads `[services_from]`.
pub(super) fn services_from(mut section: Section<'_, '_>) -> Option<ServicesFrom> {
    let kind = section.required(Key("kind", "\"etcd\""), value::choice("kind of source"));
    let source = match kind?.into_inner() {
        ServicesKind::Etcd => registry::etcd(&mut section),
    };
    section.finish();
    let source = source?;
    let prefix = format!("{}/services/", source.prefix.trim_end_matches('/'));
    Some(ServicesFrom { etcd: EtcdSource { prefix, ..source } })
}

fn file(section: &mut Section<'_, '_>) -> Option<FileSource> {
    let path = section.required(Key("path", "\"/etc/meshlb/web.toml\""), value::absolute_path);
    Some(FileSource { path: path?.into_inner() })
}

/// Reports sources that a service of this protocol cannot have, and those that it names twice.
pub(super) fn check(
    sources: &[Spanned<Discovery>],
    protocol: Option<&Spanned<Protocol>>,
    report: &mut Report,
) {
    for (position, source) in sources.iter().enumerate() {
        let name = source.get_ref().source.to_string();
        let same = |other: &&Spanned<Discovery>| other.get_ref().source.to_string() == name;
        if let Some(first) = sources.iter().take(position).find(same) {
            let problem = Problem::new(format!("the service has {name} already"))
                .advise("name a source once; its `port` may be a range, or \"any\"");
            report.add(problem.at(source.span()).beside(first.span(), "first here"));
        }
        if let Some(quic) = protocol.filter(|it| *it.get_ref() == Protocol::Quic) {
            let problem =
                Problem::new("backends of a QUIC service cannot be discovered: each needs its `server_id`")
                    .advise("write them as [[service.backend]], or use `protocol = \"udp\"`");
            report.add(problem.at(source.span()).beside(quic.span(), "QUIC"));
        }
    }
}

/// Reports sources that services share and say different things of: they are asked once, in one way.
pub(super) fn check_shared<'a>(services: &'a [Placed], report: &mut Report) {
    let mut seen = HashMap::new();
    let of =
        |placed: &'a Placed| placed.service.discovery.iter().zip(&placed.sources).map(move |it| (placed, it));
    for (placed, (Discovery { source, .. }, span)) in services.iter().flat_map(of) {
        match seen.entry(source.to_string()) {
            Entry::Vacant(free) => {
                free.insert((&placed.header, source, span));
            }
            Entry::Occupied(first) => {
                let (service, first, place) = *first.get();
                // Twice in one service is another problem.
                if first != source && *service != placed.header {
                    let problem = Problem::new(format!("{source} is asked in another way than above"))
                        .advise("services share a source: give it the same keys in each, but for `port`, `weight`, `group` and `priority`");
                    report.add(problem.at(span.clone()).beside(place.clone(), "first here"));
                }
            }
        }
    }
}
