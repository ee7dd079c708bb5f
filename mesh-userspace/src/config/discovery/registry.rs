//! Registries that are asked over HTTP: how they are reached, and what each kind is asked for.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Tls;

/// How a registry is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Who is asked first.
    pub endpoint: Endpoint,
    /// Who is asked, in this order, while those before do not answer.
    pub others: Vec<Endpoint>,
    /// What `https` endpoints are trusted by; `None`: there is none.
    pub tls: Option<Tls>,
    /// How long a connection may take to be made, and an answer to come.
    pub timeout: Duration,
}

/// Where a registry answers: `http://127.0.0.1:8500`, maybe with a path, which does not end in `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it speaks TLS.
    pub is_secure: bool,
    /// Name or address, the latter without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// What all paths begin with; empty, or begins with `/`.
    pub base: String,
}

/// Who asks. The password is read when it is needed, and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The file that holds the password.
    pub password_file: PathBuf,
}

/// A service of Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulSource {
    /// The agents.
    pub access: Access,
    /// The service's name.
    pub service: String,
    /// Tags that an instance must have, all of them.
    pub tags: Vec<String>,
    /// The datacenter; `None`: the agent's own.
    pub datacenter: Option<String>,
    /// The file that holds the token; `None`: the anonymous one.
    pub token_file: Option<PathBuf>,
    /// How long an agent may wait for a change before it answers.
    pub wait: Duration,
}

/// Instances that are stored in etcd, one to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSource {
    /// The members of the cluster.
    pub access: Access,
    /// What the keys begin with; not empty.
    pub prefix: String,
    /// Who asks; `None`: nobody in particular.
    pub login: Option<Login>,
}

/// An application of Eureka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EurekaSource {
    /// The servers.
    pub access: Access,
    /// The application's name, in capitals, as Eureka has it.
    pub application: String,
    /// Who asks; `None`: nobody in particular.
    pub login: Option<Login>,
    /// From one question for changes to the next.
    pub interval: Duration,
}

impl Access {
    /// The default of [`Self::timeout`].
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

impl ConsulSource {
    /// Where agents answer by default.
    pub const ENDPOINT: &str = "http://127.0.0.1:8500";
    /// The default of [`Self::wait`].
    pub const WAIT: Duration = Duration::from_secs(60);
}

impl EtcdSource {
    /// Where a member answers by default.
    pub const ENDPOINT: &str = "http://127.0.0.1:2379";
}

impl EurekaSource {
    /// The default of [`Self::interval`].
    pub const INTERVAL: Duration = Duration::from_secs(10);
}

impl Endpoint {
    /// Host and port as URLs have them.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}

/// The endpoints with commas.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)?;
        self.others.iter().try_for_each(|other| write!(f, ",{other}"))
    }
}

impl fmt::Display for EtcdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd {} {}", self.access, self.prefix)
    }
}

impl fmt::Display for EurekaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eureka {} {}", self.access, self.application)
    }
}

impl fmt::Display for ConsulSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "consul {} {}", self.access, self.service)?;
        self.datacenter.iter().try_for_each(|datacenter| write!(f, " in {datacenter}"))?;
        self.tags.iter().try_for_each(|tag| write!(f, " with {tag}"))
    }
}
