//! `[[service.discovery]]`: sources that a service's backends come from, besides its file.

use std::fmt;
use std::path::PathBuf;

use super::Ports;
use super::choice::choices;

mod dns;
mod kubernetes;
mod registry;

pub use dns::{DnsFamily, DnsLookup, DnsSource};
pub use kubernetes::{Kubeconfig, KubernetesSource};
pub use registry::{Access, ConsulSource, Endpoint, EtcdSource, EurekaSource, Login};

choices! {
    /// What a source of backends is.
    DiscoveryKind {
        /// A file with a list.
        File = "file",
        /// A name that name servers know.
        Dns = "dns",
        /// A service of a Kubernetes cluster.
        Kubernetes = "kubernetes",
        /// Consul, over HTTP.
        Consul = "consul",
        /// etcd, over its JSON gateway.
        Etcd = "etcd",
        /// Eureka, over HTTP.
        Eureka = "eureka",
    }
}

choices! {
    /// What a source of services is.
    ServicesKind {
        /// etcd, over its JSON gateway.
        Etcd = "etcd",
    }
}

/// `[services_from]`: where services are defined beside the files. `Display` is its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesFrom {
    /// Who is asked. Behind the prefix stands the name of a service, and nothing else.
    pub etcd: EtcdSource,
}

impl ServicesFrom {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> ServicesKind {
        ServicesKind::Etcd
    }
}

impl fmt::Display for ServicesFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "services of {}", self.etcd)
    }
}

/// `[[service.discovery]]`: a source of backends, and what the service takes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Who is asked.
    pub source: DiscoverySource,
    /// The ports with which instances are registered that the service takes; `None`: its own.
    pub ports: Option<Ports>,
    /// The weight of instances that come without one.
    pub weight: u16,
}

/// A source of backends. `Display` is its name, which no other source has: it says who is asked and what. Services
/// that name the same share it, and say the same of how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoverySource {
    /// A file with a list.
    File(FileSource),
    /// A name that name servers know.
    Dns(DnsSource),
    /// A service of a Kubernetes cluster.
    Kubernetes(KubernetesSource),
    /// A service of Consul.
    Consul(ConsulSource),
    /// Instances that are stored in etcd.
    Etcd(EtcdSource),
    /// An application of Eureka.
    Eureka(EurekaSource),
}

/// A file with a list of backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// Where it is, absolute; JSON if it ends in `.json`, else TOML.
    pub path: PathBuf,
}

impl DiscoverySource {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> DiscoveryKind {
        match self {
            Self::File(_) => DiscoveryKind::File,
            Self::Dns(_) => DiscoveryKind::Dns,
            Self::Kubernetes(_) => DiscoveryKind::Kubernetes,
            Self::Consul(_) => DiscoveryKind::Consul,
            Self::Etcd(_) => DiscoveryKind::Etcd,
            Self::Eureka(_) => DiscoveryKind::Eureka,
        }
    }
}

impl fmt::Display for DiscoverySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(FileSource { path }) => write!(f, "file {}", path.display()),
            Self::Dns(source) => source.fmt(f),
            Self::Kubernetes(source) => source.fmt(f),
            Self::Consul(source) => source.fmt(f),
            Self::Etcd(source) => source.fmt(f),
            Self::Eureka(source) => source.fmt(f),
        }
    }
}

choices! {
    /// What a source says of a backend beside that it is there.
    #[derive(Default)]
    Standing {
        /// It may have flows.
        #[default]
        Ready = "ready",
        /// It keeps its flows and takes no new ones: it is being maintained, or ends.
        Draining = "draining",
        /// The source's own checks fail: as if its probes did.
        Failing = "failing",
    }
}
