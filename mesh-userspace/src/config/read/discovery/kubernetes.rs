//! Reads sources of `kind = "kubernetes"`.

use toml::Spanned;

use crate::config::read::section::{Key, Section};
use crate::config::read::value::{self, Node, Read};
use crate::config::{Kubeconfig, KubernetesSource, Problem};

/// Longest name of a namespace, service or port: bytes (RFC 1123 labels).
const LABEL_BYTES: usize = 63;

/// A source; `None` after a report.
pub(super) fn source(section: &mut Section<'_, '_>) -> Option<KubernetesSource> {
    let namespace = section.optional(Key("namespace", "\"default\""), label);
    let service = section.required(Key("service", "\"web\""), label);
    let port_name = section.optional(Key("port_name", "\"http\""), label);
    let kubeconfig = kubeconfig(section);
    Some(KubernetesSource {
        namespace: namespace.map_or_else(|| KubernetesSource::NAMESPACE.to_owned(), Spanned::into_inner),
        service: service?.into_inner(),
        port_name: port_name.map(Spanned::into_inner),
        kubeconfig,
    })
}

fn kubeconfig(section: &mut Section<'_, '_>) -> Option<Kubeconfig> {
    let is_written = section.has("kubeconfig");
    let path = section.optional(Key("kubeconfig", "\"/etc/meshlb/kubeconfig\""), value::absolute_path);
    let context = section.optional(Key("context", "\"production\""), context);
    if let Some(context) = context.as_ref().filter(|_| !is_written) {
        let problem = Problem::new("`context` is written without `kubeconfig`");
        let advice = "name the file that has the context: `kubeconfig = \"/etc/meshlb/kubeconfig\"`";
        section.report().add(problem.advise(advice).at(context.span()));
    }
    Some(Kubeconfig { path: path?.into_inner(), context: context.map(Spanned::into_inner) })
}

fn label(node: &Node<'_>) -> Read<String> {
    let written = value::text(node)?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = (1..=LABEL_BYTES).contains(&written.len())
        && written.chars().all(fits)
        && !written.starts_with('-')
        && !written.ends_with('-');
    let advice = format!(
        "write 1 to {LABEL_BYTES} lower-case letters, digits or '-', neither beginning nor ending with '-'"
    );
    let problem = || Problem::new(format!("{written:?} is not a name in Kubernetes")).advise(advice);
    is_label.then(|| written.to_owned()).ok_or_else(problem)
}

fn context(node: &Node<'_>) -> Read<String> {
    let written = value::text(node)?;
    let problem = || Problem::new("a context has a name");
    (!written.is_empty()).then(|| written.to_owned()).ok_or_else(problem)
}
