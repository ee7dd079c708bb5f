//! The life of one source: follow, and after a failure wait and follow again.

use tokio::time::sleep;

use super::error::Followed;
use super::voice::Voice;
use super::waits::Waits;
use super::{dns, file, kubernetes};
use crate::config::DiscoverySource;

/// Follows a source for ever.
pub(super) async fn run(source: DiscoverySource, mut voice: Voice) {
    let mut waits = Waits::new();
    loop {
        let Err(error) = follow(&source, &mut voice).await;
        if voice.has_spoken() {
            waits.restart();
        }
        let wait = waits.next();
        voice.fail(&error, wait);
        sleep(wait).await;
    }
}

async fn follow(source: &DiscoverySource, voice: &mut Voice) -> Followed {
    match source {
        DiscoverySource::File(source) => file::follow(source, voice).await,
        DiscoverySource::Dns(source) => dns::follow(source, voice).await,
        DiscoverySource::Kubernetes(source) => kubernetes::follow(source, voice).await,
    }
}
