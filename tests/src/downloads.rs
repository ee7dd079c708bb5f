//! Many long downloads at once, each over a connection of its own: what must survive a reload, a restart, a
//! drain, and what must fail visibly when a backend dies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::client::{self, Client};
use crate::wait;

/// What each connection downloads.
#[derive(Debug, Clone, Copy)]
pub struct Download {
    /// Where from; usually a VIP.
    pub address: SocketAddr,
    /// Chunks in all.
    pub chunks: u64,
    /// Bytes per chunk.
    pub size: u64,
    /// Between chunks.
    pub pause: Duration,
    /// A download that receives nothing for so long has failed.
    pub stall: Duration,
}

impl Download {
    /// A download that lasts about `length`: 1 KiB every 20 ms, failed after 5 s of silence.
    pub fn lasting(address: SocketAddr, length: Duration) -> Self {
        let chunks = u64::try_from(length.as_millis() / 20).unwrap_or(u64::MAX).max(1);
        Self { address, chunks, size: 1024, pause: Duration::from_millis(20), stall: Duration::from_secs(5) }
    }

    fn bytes(&self) -> u64 {
        self.chunks * self.size
    }

    fn url(&self) -> String {
        let Self { address, chunks, size, pause, stall: _ } = self;
        format!("http://{address}/download?chunks={chunks}&size={size}&pause_ms={}", pause.as_millis())
    }
}

/// How far one download is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Who sends, once the answer has begun.
    pub backend: Option<String>,
    /// Bytes received.
    pub bytes: u64,
    /// How it ended, if it has: `Err` says why it failed.
    pub end: Option<Result<(), String>>,
}

/// Downloads under way; dropping this aborts them.
#[derive(Debug)]
pub struct Downloads {
    progress: Vec<Arc<Mutex<Progress>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    // Keeps the runtime that the tasks run on.
    _client: Client,
}

/// How all downloads ended.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Downloads that received every byte.
    pub completed: usize,
    /// The others.
    pub failures: Vec<Failure>,
}

/// One download that did not receive every byte.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Who had been sending, if the answer had begun.
    pub backend: Option<String>,
    /// Bytes received until then.
    pub bytes: u64,
    /// The error with its causes.
    pub reason: String,
}

impl Downloads {
    /// Starts `count` downloads at once.
    pub fn start(client: &Client, count: usize, download: Download) -> Self {
        let progress: Vec<_> = (0..count).map(|_| Arc::<Mutex<Progress>>::default()).collect();
        let start = |progress: &Arc<_>| client.runtime().spawn(follow(download, Arc::clone(progress)));
        let tasks = progress.iter().map(start).collect();
        Self { progress, tasks, _client: client.clone() }
    }

    /// How far each one is, in the order of the start.
    pub fn progress(&self) -> Vec<Progress> {
        self.progress.iter().map(|progress| lock(progress).clone()).collect()
    }

    /// How many each backend serves. An error unless every answer has begun.
    pub fn spread(&self) -> Result<BTreeMap<String, u32>> {
        let mut spread = BTreeMap::new();
        for progress in self.progress() {
            *spread.entry(progress.backend.context("a download has no answer yet")?).or_default() += 1;
        }
        Ok(spread)
    }

    /// How many have ended, well or not.
    pub fn ended(&self) -> usize {
        self.progress().iter().filter(|progress| progress.end.is_some()).count()
    }

    /// Waits until every download has received bytes.
    pub fn flowing(&self, within: Duration) -> Result<()> {
        wait::until("every download has received bytes", within, || {
            let progress = self.progress();
            let idle = progress.iter().filter(|progress| progress.bytes == 0);
            let reasons: Vec<_> = idle.map(|progress| format!("{:?}", progress.end)).collect();
            ensure!(reasons.is_empty(), "{} have received nothing: {reasons:?}", reasons.len());
            Ok(())
        })
    }

    /// Waits until all have ended.
    pub fn finish(self, within: Duration) -> Result<Summary> {
        wait::eventually("all downloads have ended", within, || self.ended() == self.progress.len())
            .with_context(|| format!("{} of {} have ended", self.ended(), self.progress.len()))?;
        Ok(summarise(self.progress()))
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn summarise(all: Vec<Progress>) -> Summary {
    let total = all.len();
    let failures: Vec<_> = all.into_iter().filter_map(failure).collect();
    Summary { completed: total - failures.len(), failures }
}

fn failure(progress: Progress) -> Option<Failure> {
    let reason = progress.end?.err()?;
    Some(Failure { backend: progress.backend, bytes: progress.bytes, reason })
}

async fn follow(download: Download, progress: Arc<Mutex<Progress>>) {
    let outcome = receive(download, &progress).await;
    lock(&progress).end = Some(outcome.map_err(|error| format!("{error:#}")));
}

/// Every download has an HTTP client of its own, and so a connection of its own.
async fn receive(download: Download, progress: &Mutex<Progress>) -> Result<()> {
    let http = client::builder().read_timeout(download.stall).build()?;
    let mut response = http.get(download.url()).send().await?.error_for_status()?;
    lock(progress).backend = client::header(&response, "x-backend");
    while let Some(chunk) = response.chunk().await? {
        lock(progress).bytes += u64::try_from(chunk.len())?;
    }
    let received = lock(progress).bytes;
    if received != download.bytes() {
        bail!("ended after {received} of {} bytes", download.bytes());
    }
    Ok(())
}
