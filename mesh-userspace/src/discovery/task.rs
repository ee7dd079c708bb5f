//! The life of one source: follow, and after a failure wait and follow again.

use tokio::time::sleep;

use super::voice::Voice;
use super::waits::Waits;
use super::word::Follow;

/// Follows a source for ever.
pub(super) async fn run<S: Follow>(source: S, mut voice: Voice<S::Word>) {
    let mut waits = Waits::new();
    loop {
        let Err(error) = source.follow(&mut voice).await;
        if voice.has_spoken() {
            waits.restart();
        }
        let wait = waits.next();
        voice.fail(&error, wait);
        sleep(wait).await;
    }
}
