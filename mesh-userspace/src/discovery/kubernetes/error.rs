//! Why a cluster says nothing of use.

use std::error::Error;
use std::time::Duration;

use kube::config::{InClusterError, KubeconfigError};

/// HTTP's status for a version that the server has forgotten (Kubernetes' API concepts, "410 Gone").
const GONE: u16 = 410;

/// Why a Kubernetes cluster says nothing of use about a service.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The agent is not in a cluster, or has no account there.
    #[error("this is no pod with a service account, write `kubeconfig`: {0}")]
    InCluster(InClusterError),
    /// The file that says how to reach the cluster is of no use.
    #[error("{file} is of no use: {}", whole(.error))]
    Kubeconfig {
        /// Which.
        file: String,
        /// Why.
        error: KubeconfigError,
    },
    /// Should not happen.
    #[error("reading was given up: {0}")]
    Lost(String),
    /// The API server refuses or fails.
    #[error("the API server answers {code}: {message}")]
    Api {
        /// HTTP's status.
        code: u16,
        /// In its words.
        message: String,
    },
    /// The API server's answer cannot be read.
    #[error("the API server's answer is not understood: {0}")]
    Malformed(String),
    /// The API server cannot be asked.
    #[error("the API server cannot be asked: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the API server was silent: no end of the {request} within {}", humantime::format_duration(*.after))]
    Silent {
        /// What was asked for.
        request: &'static str,
        /// How long it took.
        after: Duration,
    },
    /// A slice makes no sense.
    #[error("the EndpointSlice {name:?} is not understood: {reason}")]
    Slice {
        /// Which.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl KubernetesError {
    /// Whether the server only does not know any more what happened since.
    pub(super) const fn is_gone(&self) -> bool {
        matches!(self, Self::Api { code: GONE, .. })
    }
}

impl From<kube::Error> for KubernetesError {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            Self::from(*status)
        } else if let kube::Error::SerdeError(error) = error {
            Self::Malformed(error.to_string())
        } else {
            Self::Unreachable(whole(&error))
        }
    }
}

impl From<kube::core::Status> for KubernetesError {
    fn from(status: kube::core::Status) -> Self {
        let kube::core::Status { code, message, reason, .. } = status;
        if code == 0 {
            // Whatever is no event is read as a status, in which everything may be missing.
            return Self::Malformed("it is neither an event nor a status".to_owned());
        }
        Self::Api { code, message: if message.is_empty() { reason } else { message } }
    }
}

/// An error with its causes, each said once.
fn whole(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_said = next.to_string();
        if !said.contains(&next_said) {
            said = format!("{said}: {next_said}");
        }
        cause = next.source();
    }
    said
}
