//! Kubernetes services as sources of backends.

use std::fmt;
use std::path::PathBuf;

/// A service of a Kubernetes cluster, whose endpoints are backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSource {
    /// Where the service is.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Which of its ports; `None`: each.
    pub port_name: Option<String>,
    /// How the cluster is reached; `None`: it is the one that the agent runs in.
    pub kubeconfig: Option<Kubeconfig>,
}

/// A file that says how a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Which of its contexts; `None`: its current one.
    pub context: Option<String>,
}

impl KubernetesSource {
    /// The default of [`Self::namespace`].
    pub const NAMESPACE: &str = "default";
}

impl fmt::Display for KubernetesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kubernetes {}/{}", self.namespace, self.service)?;
        if let Some(port) = &self.port_name {
            write!(f, ":{port}")?;
        }
        match &self.kubeconfig {
            None => Ok(()),
            Some(Kubeconfig { path, context: None }) => write!(f, " by {}", path.display()),
            Some(Kubeconfig { path, context: Some(context) }) => {
                write!(f, " by {context} of {}", path.display())
            }
        }
    }
}
