//! The life of one source: follow, and after a failure wait and follow again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::sleep;

use super::error::Followed;
use super::file;
use super::voice::Voice;
use crate::config::DiscoverySource;

/// The wait after the first failure; it doubles with each that follows, and chance makes it up to twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait, before chance.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Follows a source for ever.
pub(super) async fn run(source: DiscoverySource, mut voice: Voice) {
    let mut waits = waits();
    loop {
        let Err(error) = follow(&source, &mut voice).await;
        if voice.has_spoken() {
            waits = self::waits();
        }
        let wait = waits.next().unwrap_or(LONGEST_WAIT);
        voice.fail(&error, wait);
        sleep(wait).await;
    }
}

async fn follow(source: &DiscoverySource, voice: &mut Voice) -> Followed {
    match source {
        DiscoverySource::File(source) => file::follow(source, voice).await,
    }
}

fn waits() -> ExponentialBackoff {
    let waits = ExponentialBuilder::default().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
    waits.with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_never_end() {
        let waits: Vec<Duration> = waits().take(40).collect();
        assert_eq!(waits.len(), 40);
        let (first, later) = (waits.first().unwrap(), waits.iter().skip(20));
        assert!((FIRST_WAIT..=2 * FIRST_WAIT).contains(first), "{first:?}");
        later.for_each(|wait| assert!((LONGEST_WAIT..=2 * LONGEST_WAIT).contains(wait), "{wait:?}"));
    }
}
