//! The endpoints of a Kubernetes service: its EndpointSlices (discovery.k8s.io/v1), listed once and watched from then on.
//!
//! Invariants: the slices that are known are always those of one list and all changes since; where a change may have
//! been missed (the server has forgotten the version, an event is not understood), they are listed again; an error is
//! no answer, and leaves what was said last as it is.

mod client;
mod error;
mod slices;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, WatchParams};
use tokio::time::{Instant, sleep, timeout};

pub use error::KubernetesError;

use self::slices::Slices;
use super::error::Followed;
use super::voice::Voice;
use super::waits::Waits;
use crate::config::KubernetesSource;

/// The label by which slices say whose they are (Kubernetes' API, EndpointSlice).
const OWNER: &str = "kubernetes.io/service-name";

/// How long the server shall let a watch last, so that both sides know that the other is there: seconds.
const WATCH_SECONDS: u32 = 60;

/// A watch that is not over by then has no server at its other end.
const WATCH_LASTS: Duration = Duration::from_secs(70);

/// How long a list may take.
const LIST_LASTS: Duration = Duration::from_secs(30);

/// A watch that ends sooner than this was none: the next waits.
const TOO_SOON: Duration = Duration::from_secs(5);

/// Says who is there whenever that changes.
pub(super) async fn follow(source: &KubernetesSource, voice: &mut Voice) -> Followed {
    let mut waits = Waits::new();
    loop {
        // Begun anew after every failure: credentials and authorities may be others now.
        let Err(error) = Follower::follow(source, voice, &mut waits).await;
        let wait = waits.next();
        voice.fail(&error.into(), wait);
        sleep(wait).await;
    }
}

struct Follower<'a> {
    source: &'a KubernetesSource,
    api: Api<EndpointSlice>,
    voice: &'a mut Voice,
    waits: &'a mut Waits,
}

impl<'a> Follower<'a> {
    async fn follow(
        source: &'a KubernetesSource,
        voice: &'a mut Voice,
        waits: &'a mut Waits,
    ) -> Result<Infallible, KubernetesError> {
        let client = client::connect(source).await?;
        let mut follower = Self { source, api: Api::namespaced(client, &source.namespace), voice, waits };
        loop {
            let mut slices = follower.list().await?;
            loop {
                match follower.watch(&mut slices).await {
                    Ok(()) => {}
                    Err(error) if error.is_gone() => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn selector(&self) -> String {
        format!("{OWNER}={}", self.source.service)
    }

    async fn list(&mut self) -> Result<Slices, KubernetesError> {
        let parameters = ListParams::default().labels(&self.selector());
        let listed = timeout(LIST_LASTS, self.api.list(&parameters)).await;
        let list =
            listed.map_err(|_elapsed| KubernetesError::Silent { request: "list", after: LIST_LASTS })?;
        let slices = Slices::of(list?, self.source.port_name.as_deref())?;
        self.voice.say(slices.snapshot()).await;
        Ok(slices)
    }

    /// Watches once, from the version of the slices on. What ends at once is not begun again at once.
    async fn watch(&mut self, slices: &mut Slices) -> Result<(), KubernetesError> {
        let begin = Instant::now();
        let watched = timeout(WATCH_LASTS, self.take_events(slices)).await;
        let silent = |_elapsed| KubernetesError::Silent { request: "watch", after: WATCH_LASTS };
        let ended = watched.map_err(silent).flatten();
        if begin.elapsed() >= TOO_SOON {
            self.waits.restart();
        } else if ended.as_ref().err().is_none_or(KubernetesError::is_gone) {
            sleep(self.waits.next()).await;
        }
        ended
    }

    async fn take_events(&mut self, slices: &mut Slices) -> Result<(), KubernetesError> {
        let parameters = WatchParams::default().labels(&self.selector()).timeout(WATCH_SECONDS);
        let mut events = pin!(self.api.watch(&parameters, slices.version()).await?);
        while let Some(event) = events.next().await {
            slices.apply(event?)?;
            self.voice.say(slices.snapshot()).await;
        }
        // Nothing else has happened.
        self.voice.say(slices.snapshot()).await;
        Ok(())
    }
}
