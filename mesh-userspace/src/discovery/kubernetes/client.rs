//! The way to a cluster's API server.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig as File};
use kube::{Client, Config};
use tokio::task::spawn_blocking;

use super::{KubernetesError, WATCH_LASTS};
use crate::config::{Kubeconfig, KubernetesSource};

/// How long the server has to take a connection.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// Reads what says where the server is and who asks, all of it anew.
pub(super) async fn connect(source: &KubernetesSource) -> Result<Client, KubernetesError> {
    let mut config = match &source.kubeconfig {
        None => incluster().await?,
        Some(kubeconfig) => configured(kubeconfig).await?,
    };
    config.connect_timeout = Some(CONNECTS_WITHIN);
    config.read_timeout = Some(WATCH_LASTS);
    // Failures are told, and waited after, by whoever asks.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn incluster() -> Result<Config, KubernetesError> {
    let read =
        spawn_blocking(Config::incluster).await.map_err(|error| KubernetesError::Lost(error.to_string()))?;
    read.map_err(KubernetesError::InCluster)
}

async fn configured(kubeconfig: &Kubeconfig) -> Result<Config, KubernetesError> {
    let wrong = |error| KubernetesError::Kubeconfig { file: kubeconfig.path.display().to_string(), error };
    let path = kubeconfig.path.clone();
    let read = spawn_blocking(move || File::read_from(path)).await;
    let file = read.map_err(|error| KubernetesError::Lost(error.to_string()))?.map_err(wrong)?;
    let options = KubeConfigOptions { context: kubeconfig.context.clone(), cluster: None, user: None };
    Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)
}
