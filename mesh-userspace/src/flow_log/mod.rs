//! The flow log: a line of JSON for every TCP connection that begins or ends, as far as the balancer sees it.
//!
//! What there is to tell, the programs put into a ring buffer; a thread of its own reads it and writes. Invariant: nobody
//! waits for that thread. While it cannot write, the ring buffer fills, and what finds no room there is counted and told
//! by a record once there is room again, as is what could not be written.

mod flows;
mod record;
mod sink;

pub use flows::{Flows, Turn};
pub use record::{Flow, Lost, Record};
pub use sink::Sink;

use crate::{
    agent::trace::Names,
    dataplane::kernel::{Followed, Told, epoch},
};
use mesh_common::notes::FlowEvent;
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How often it is looked what was missed, though nothing was told.
const PERIOD: Duration = Duration::from_secs(1);

/// Records that are written at once at most: some 200 kB.
const BATCH: usize = 1024;

/// How long a backend's name may take to come from the loop, which has just put the backend into the maps.
const NAMING: Duration = Duration::from_millis(500);
const NAMING_STEP: Duration = Duration::from_millis(20);

/// How long the end of the agent waits for the last records.
const FAREWELL: Duration = Duration::from_secs(2);

/// What became of records since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that were written.
    pub written: u64,
    /// Segments that the kernel had no room for.
    pub missed: u64,
    /// Records that could not be written.
    pub unwritten: u64,
}

/// The log, as the loop knows it.
pub struct FlowLog {
    shared: Arc<Shared>,
    /// Closed when the thread has ended.
    ended: mpsc::Receiver<()>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<Names>,
    written: AtomicU64,
    missed: AtomicU64,
    unwritten: AtomicU64,
    /// Why records cannot be written now.
    problem: Mutex<Option<String>>,
    reopen: AtomicBool,
    stop: CancellationToken,
}

impl FlowLog {
    /// Begins to write what the programs tell. Within a runtime.
    ///
    /// # Errors
    ///
    /// What they tell cannot be read, or there is no thread.
    pub fn start(turns: Told<FlowEvent>, sink: Sink, names: Names) -> io::Result<Self> {
        let shared = Arc::new(Shared { names: Mutex::new(names), ..Shared::default() });
        let (running, ended) = mpsc::channel();
        let writer = Writer {
            turns: turns.follow()?,
            sink,
            flows: Flows::default(),
            shared: Arc::clone(&shared),
            epoch: epoch()?,
            missed: 0,
            unwritten: 0,
            unnamed: BTreeSet::new(),
            _running: running,
        };
        let runtime = Handle::current();
        thread::Builder::new().name("flow-log".into()).spawn(move || writer.run(&runtime))?;
        Ok(Self { shared, ended })
    }

    /// Calls services and backends by these names from now on, and those that are gone as before.
    pub fn rename(&self, names: Names) {
        let mut known = self.shared.names();
        known.services.extend(names.services);
        known.backends.extend(names.backends);
    }

    /// Opens the file again before the next record: it may have been moved away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
    }

    /// What became of records.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { written, missed, unwritten, .. } = &*self.shared;
        Tally { written: read(written), missed: read(missed), unwritten: read(unwritten) }
    }

    /// What somebody should look at.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.shared.problem().clone()
    }

    /// Writes what was told up to now, and ends. Whoever cannot be written to is not waited for.
    pub fn finish(self) {
        self.shared.stop.cancel();
        if self.ended.recv_timeout(FAREWELL) == Err(mpsc::RecvTimeoutError::Timeout) {
            warn!(waited = ?FAREWELL, "ended without the last records of the flow log");
        }
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Writer {
    turns: Followed<FlowEvent>,
    sink: Sink,
    flows: Flows,
    shared: Arc<Shared>,
    /// What the monotonic clock's zero was.
    epoch: Duration,
    /// Of what was missed, so much was told.
    missed: u64,
    /// Records that could not be written, of which nothing was told yet.
    unwritten: u64,
    /// Backends whose names did not come in time, and are not waited for again.
    unnamed: BTreeSet<u32>,
    /// Dropped at the end, by which that is known.
    _running: mpsc::Sender<()>,
}

impl Writer {
    fn run(mut self, runtime: &Handle) {
        self.write(&[Record::Opened { time: now() }]);
        loop {
            let stop = self.shared.stop.clone();
            let turns = &mut self.turns;
            let ends = runtime.block_on(async {
                tokio::select! {
                    () = stop.cancelled() => true,
                    waited = timeout(PERIOD, turns.wait()) => matches!(waited, Ok(Err(_))),
                }
            });
            if self.shared.reopen.swap(false, Ordering::Relaxed) {
                self.sink.reopen();
            }
            self.read();
            self.tell_missed();
            if self.unwritten > 0 {
                self.write(&[]);
            }
            if ends {
                self.write(&[Record::Closed { time: now() }]);
                return;
            }
        }
    }

    /// Writes what was told by now.
    fn read(&mut self) {
        let mut records = Vec::new();
        while let Some(event) = self.turns.take() {
            if let Some(turn) = self.flows.turn(&event) {
                let record = self.record(&event, turn);
                records.push(record);
            }
            if records.len() >= BATCH {
                self.write(&records);
                records.clear();
            }
        }
        if !records.is_empty() {
            self.write(&records);
        }
    }

    fn record(&mut self, event: &FlowEvent, turn: Turn) -> Record {
        self.await_name(event.backend);
        Record::of(event, turn, &self.shared.names(), self.epoch)
    }

    /// Waits a little for the name of a backend.
    fn await_name(&mut self, backend: u32) {
        let is_named = || backend == 0 || self.shared.names().backends.contains_key(&backend);
        if is_named() || self.unnamed.contains(&backend) {
            return;
        }
        let started = Instant::now();
        while started.elapsed() < NAMING {
            thread::sleep(NAMING_STEP);
            if is_named() {
                return;
            }
        }
        self.unnamed.insert(backend);
    }

    fn tell_missed(&mut self) {
        let missed = match self.turns.missed() {
            Ok(missed) => missed,
            Err(error) => return warn!(%error, "could not read how many segments the flow log missed"),
        };
        self.shared.missed.store(missed, Ordering::Relaxed);
        let count = missed.saturating_sub(self.missed);
        if count > 0 && self.write(&[Record::Lost { time: now(), count, by: Lost::Kernel }]) {
            self.missed = missed;
        }
    }

    /// Writes records, with what was lost before them; whether that went well.
    fn write(&mut self, records: &[Record]) -> bool {
        let lost = (self.unwritten > 0).then(|| Record::Lost {
            time: now(),
            count: self.unwritten,
            by: Lost::Write,
        });
        let lines: Vec<u8> = lost.iter().chain(records).flat_map(Record::line).collect();
        let written = self.sink.write(&lines);
        let is_written = written.is_ok();
        if is_written {
            self.unwritten = 0;
            self.shared.written.fetch_add(count(records), Ordering::Relaxed);
        } else {
            // What says that something was lost is no loss itself: it is told again.
            let lost = count(records.iter().filter(|record| !record.is_about_losses()));
            self.unwritten += lost;
            self.shared.unwritten.fetch_add(lost, Ordering::Relaxed);
        }
        self.note(written.err());
        is_written
    }

    /// Says once that records are lost, and once that they no longer are.
    fn note(&self, error: Option<io::Error>) {
        let mut problem = self.shared.problem();
        match (&*problem, &error) {
            (None, Some(error)) => error!(%error, "could not write the flow log, its records are lost"),
            (Some(_), None) => info!("the flow log is written again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        *problem = error.map(|error| {
            let lost = self.unwritten;
            format!("the flow log cannot be written, {lost} records are lost: {error}")
        });
    }
}

fn count<T>(records: impl IntoIterator<Item = T>) -> u64 {
    u64::try_from(records.into_iter().count()).unwrap_or(u64::MAX)
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
