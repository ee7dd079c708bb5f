//! `meshlb drain --wait`: drains a backend and watches until it has nothing left to do.

use std::io::Write;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::error::CliError;
use super::names::Target;
use super::output::Output;
use super::screens;
use crate::api::Client;
use crate::api::types::DrainProgress;

/// How often the agent is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// Drains a backend and returns when it may be stopped.
///
/// # Errors
/// The deadline passed before, somebody ended the drain, or the agent does not answer.
pub(super) async fn drain_and_wait<W: Write>(
    agent: &Client,
    of: &Target,
    deadline: Option<Duration>,
    quiet: Duration,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let begin = Instant::now();
    if let Some(forgotten) = agent.drain(&of.service, of.backend).await?.forgotten {
        output.tell(|| forgotten)?;
    }
    let mut watch = Watch::new(begin);
    loop {
        let progress = agent.drain_progress(&of.service, of.backend).await?;
        let now = Instant::now();
        let silence = watch.silence(&progress, now);
        if !progress.draining {
            return Err(CliError::Undrained { service: of.service.clone(), backend: of.backend });
        }
        if is_safe(&progress, silence, quiet) {
            return output.show(&progress, screens::safe_to_stop);
        }
        output.tell(|| screens::draining(&progress, silence))?;
        if deadline.is_some_and(|deadline| now.saturating_duration_since(begin) >= deadline) {
            return Err(CliError::DrainDeadline { flows: progress.flows, silence });
        }
        sleep(PERIOD).await;
    }
}

/// Since when no packets arrive.
struct Watch {
    packets: Option<u64>,
    since: Instant,
}

impl Watch {
    const fn new(now: Instant) -> Self {
        Self { packets: None, since: now }
    }

    fn silence(&mut self, progress: &DrainProgress, now: Instant) -> Duration {
        if self.packets != Some(progress.packets) {
            *self = Self { packets: Some(progress.packets), since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

/// Whether nobody would notice that the backend is gone.
fn is_safe(progress: &DrainProgress, silence: Duration, quiet: Duration) -> bool {
    progress.slots == 0 && progress.flows == 0 && silence >= quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(10);

    #[test]
    fn silence_begins_with_the_last_packet() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let packets = |packets| DrainProgress { packets, ..DrainProgress::default() };
        let mut watch = Watch::new(start);
        assert_eq!(
            watch.silence(&packets(5), at(1)),
            Duration::ZERO,
            "nothing is known before the first answer"
        );
        assert_eq!(watch.silence(&packets(5), at(4)), Duration::from_secs(3));
        assert_eq!(watch.silence(&packets(6), at(5)), Duration::ZERO);
        assert_eq!(watch.silence(&packets(6), at(15)), QUIET);
    }

    #[test]
    fn it_is_safe_once_there_are_no_slots_no_flows_and_no_packets() {
        let idle = DrainProgress { draining: true, leaving: 9, ..DrainProgress::default() };
        assert!(is_safe(&idle, QUIET, QUIET));
        assert!(!is_safe(&idle, Duration::from_secs(9), QUIET));
        assert!(!is_safe(&DrainProgress { slots: 1, ..idle.clone() }, QUIET, QUIET));
        assert!(!is_safe(&DrainProgress { flows: 1, ..idle }, QUIET, QUIET));
    }
}
