//! The loop that keeps the published next hops true, whatever happens to the connection.
//!
//! Invariants: the session hears of changes before it is read for the first time; a failed sync publishes
//! nothing; a flood of changes costs a bounded share of one CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::model::{Hop, Snapshot};
use super::obstacle::Obstacle;
use super::resolve::Memory;
use super::{NextHop, NextHopError, Resolution};

/// Changes come in groups (an interface that goes down takes its routes along): wait for the rest.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// After a sync, rest this many times as long as it took.
const REST: u32 = 4;
/// Without news, look anyway, but not so often that it takes more than a two-hundredth of a CPU.
const SILENCE: Duration = Duration::from_secs(5);
const LEISURE: u32 = 200;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Something that can be asked for routes: the kernel, or its double in tests.
pub(super) trait Source: Send + 'static {
    type Session: Session;

    /// Connects, and subscribes to changes.
    fn open(&mut self) -> impl Future<Output = Result<Self::Session, NextHopError>> + Send;
}

/// An open connection. An error means that it is of no more use.
pub(super) trait Session: Send {
    /// All that bears on the wanted addresses.
    fn snapshot(
        &mut self,
        wanted: &BTreeSet<IpAddr>,
    ) -> impl Future<Output = Result<Snapshot, NextHopError>> + Send;

    /// Makes the kernel resolve or confirm a neighbour; the result arrives as a change.
    fn ask_for(&mut self, hop: Hop) -> impl Future<Output = Result<(), NextHopError>> + Send;

    /// Waits for news since the last [`Session::mark_unchanged`].
    fn changed(&mut self) -> impl Future<Output = Result<(), NextHopError>> + Send;

    /// A sync begins, which will see all that was reported until now.
    fn mark_unchanged(&mut self);
}

/// State that outlives connections.
pub(super) struct Follower<S> {
    source: S,
    wanted: watch::Receiver<BTreeSet<IpAddr>>,
    tx: watch::Sender<BTreeMap<IpAddr, Resolution>>,
    memory: Memory,
    retry: Duration,
}

impl<S: Source> Follower<S> {
    pub(super) fn new(
        source: S,
        wanted: watch::Receiver<BTreeSet<IpAddr>>,
        tx: watch::Sender<BTreeMap<IpAddr, Resolution>>,
    ) -> Self {
        Self { source, wanted, tx, memory: Memory::default(), retry: FIRST_RETRY }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self, session: S::Session) {
        let mut opened = Ok(session);
        loop {
            let error = match opened {
                Ok(session) => self.follow(session).await,
                Err(error) => error,
            };
            warn!(%error, retry_in = ?self.retry, "lost the connection to the kernel's routes, kept the last next hops");
            sleep(self.retry).await;
            self.retry = (self.retry * 2).min(LAST_RETRY);
            opened = self.source.open().await;
        }
    }

    async fn follow(&mut self, mut session: S::Session) -> NextHopError {
        loop {
            if let Err(error) = self.turn(&mut session).await {
                return error;
            }
        }
    }

    async fn turn(&mut self, session: &mut S::Session) -> Result<(), NextHopError> {
        let begin = Instant::now();
        self.sync(session).await?;
        self.retry = FIRST_RETRY;
        let took = begin.elapsed();
        let rest = (took * REST).max(DEBOUNCE);
        let news = async {
            session.changed().await?;
            sleep(rest).await;
            Ok(())
        };
        tokio::select! {
            lost = news => lost,
            _ = self.wanted.changed() => Ok(()),
            () = sleep(SILENCE.max(took * LEISURE)) => Ok(()),
        }
    }

    async fn sync(&mut self, session: &mut S::Session) -> Result<(), NextHopError> {
        let wanted = self.wanted.borrow_and_update().clone();
        session.mark_unchanged();
        let snapshot = session.snapshot(&wanted).await?;
        self.publish(&snapshot);
        for hop in snapshot.unconfirmed() {
            ask_for(session, hop).await?;
        }
        Ok(())
    }

    fn publish(&mut self, snapshot: &Snapshot) {
        let judged = self.memory.resolve(snapshot);
        self.tx.send_if_modified(|published| {
            let resolutions =
                judged.iter().map(|(address, judgement)| (*address, resolution(judgement))).collect();
            log_changes(published, &judged);
            let changed = *published != resolutions;
            *published = resolutions;
            changed
        });
    }
}

/// A refusal is no loss: the interface has just gone, or the neighbour table is full. The next sync asks again.
async fn ask_for(session: &mut impl Session, hop: Hop) -> Result<(), NextHopError> {
    let asked = session.ask_for(hop).await;
    if let Err(error @ NextHopError::Refused { .. }) = &asked {
        debug!(neighbour = %hop.address, interface = hop.ifindex, %error, "could not have a neighbour resolved");
        return Ok(());
    }
    asked
}

fn resolution(judgement: &Result<NextHop, Obstacle>) -> Resolution {
    match judgement {
        Ok(next_hop) => Resolution::Resolved(*next_hop),
        Err(obstacle) => Resolution::Unresolved {
            reason: obstacle.to_string(),
            remedy: obstacle.remedy(),
            is_local: matches!(obstacle, Obstacle::Local { .. }),
        },
    }
}

fn log_changes(
    published: &BTreeMap<IpAddr, Resolution>,
    judged: &BTreeMap<IpAddr, Result<NextHop, Obstacle>>,
) {
    for (address, judgement) in judged {
        if published.get(address) != Some(&resolution(judgement)) {
            log_change(*address, judgement);
        }
    }
}

fn log_change(address: IpAddr, judgement: &Result<NextHop, Obstacle>) {
    match judgement {
        Ok(next_hop) => info!(backend = %address, ?next_hop, "resolved the next hop"),
        Err(reason) if reason.is_passing() => debug!(backend = %address, %reason, "asked for the next hop"),
        Err(reason) => warn!(backend = %address, %reason, "found no next hop"),
    }
}
