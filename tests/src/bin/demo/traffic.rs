//! Requests at a steady rate, each over a connection of its own, and a log of what became of them.
//!
//! Invariant: a request begins when its time has come, whether or not earlier ones were answered; so failures
//! are not hidden by clients that wait. The timeout bounds how many are under way.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mesh_tests::{Host, HostRuntime, wait};
use tokio::time::{MissedTickBehavior, interval};

use crate::tally::{End, Tally};

/// Requests per second.
pub(crate) const RATE: u32 = 200;

/// A request without a whole answer for so long has failed.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);

/// Threads of the client.
const THREADS: usize = 2;

/// Clients that never cease, until this is dropped.
#[derive(Debug)]
pub(crate) struct Traffic {
    log: Arc<Log>,
    // Keeps the clients going.
    _runtime: HostRuntime,
}

/// Every request that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<BTreeMap<u64, Request>>);

#[derive(Debug)]
struct Request {
    began: Instant,
    end: Option<End>,
}

/// What the clients ask, and by which names the backends answer.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub(crate) services: Vec<SocketAddr>,
    pub(crate) backends: Vec<String>,
}

impl Traffic {
    /// Begins to ask the services in turn from this host.
    pub(crate) fn start(client: &Host, errand: Errand) -> Result<Self> {
        let log = Arc::<Log>::default();
        let runtime = client.runtime(THREADS)?;
        let http =
            reqwest::Client::builder().no_proxy().timeout(TIMEOUT).pool_max_idle_per_host(0).build()?;
        runtime.spawn(drive(http, Arc::new(errand), Arc::clone(&log)));
        Ok(Self { log, _runtime: runtime })
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }
}

impl Log {
    /// What became of the requests that began from one moment until before another and have ended.
    pub(crate) fn tally(&self, from: Instant, to: Instant) -> Tally {
        let mut tally = Tally::default();
        let requests = self.requests();
        let within = requests.values().filter(|request| (from..to).contains(&request.began));
        within.filter_map(|request| request.end.as_ref()).for_each(|end| tally.add(end));
        tally
    }

    /// Waits until every request that began before this moment has ended.
    pub(crate) fn settle(&self, before: Instant) -> Result<()> {
        let open = |request: &&Request| request.began < before && request.end.is_none();
        wait::until("all requests have ended", TIMEOUT * 3, || {
            let open = self.requests().values().filter(open).count();
            ensure!(open == 0, "{open} are under way");
            Ok(())
        })
    }

    /// Forgets what began before this moment.
    pub(crate) fn forget(&self, before: Option<Instant>) {
        self.requests().retain(|_, request| Some(request.began) >= before);
    }

    fn begin(&self, number: u64, began: Instant) {
        self.requests().insert(number, Request { began, end: None });
    }

    fn end(&self, number: u64, end: End) {
        if let Some(request) = self.requests().get_mut(&number) {
            request.end = Some(end);
        }
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drive(http: reqwest::Client, errand: Arc<Errand>, log: Arc<Log>) {
    let mut tick = interval(Duration::from_secs(1) / RATE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (number, service) in (0..).zip(errand.services.iter().cycle()) {
        tick.tick().await;
        tokio::spawn(ask(http.clone(), *service, number, Arc::clone(&errand), Arc::clone(&log)));
    }
}

async fn ask(http: reqwest::Client, service: SocketAddr, number: u64, errand: Arc<Errand>, log: Arc<Log>) {
    log.begin(number, Instant::now());
    let end = match exchange(&http, service).await {
        Ok(name) => whose(&name, &errand.backends),
        Err(error) => End::Failed(root_cause(&error)),
    };
    log.end(number, end);
}

async fn exchange(http: &reqwest::Client, service: SocketAddr) -> reqwest::Result<String> {
    http.get(format!("http://{service}/")).send().await?.error_for_status()?.text().await
}

fn whose(name: &str, backends: &[String]) -> End {
    let found = backends.iter().position(|backend| backend == name);
    found.map_or_else(|| End::Failed(format!("answered by {name:?}")), End::Answered)
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_a_failure() {
        let backends = ["backend-1".to_owned(), "backend-2".to_owned()];
        assert_eq!(whose("backend-2", &backends), End::Answered(1));
        assert_eq!(whose("proxy", &backends), End::Failed("answered by \"proxy\"".into()));
    }

    #[test]
    fn requests_are_told_apart_by_when_they_began() {
        let log = Log::default();
        let start = Instant::now();
        let [middle, end] = [1, 2].map(|seconds| start + Duration::from_secs(seconds));
        log.begin(0, start);
        log.end(0, End::Answered(0));
        log.begin(1, middle);
        log.end(1, End::Failed("x".into()));
        log.begin(2, middle);
        log.settle(middle).unwrap();
        assert_eq!(log.tally(start, middle).answered, [1, 0, 0]);
        assert_eq!((log.tally(middle, end).failed(), log.tally(middle, end).requests()), (1, 1));
        log.forget(Some(middle));
        assert_eq!(log.tally(start, end).requests(), 1);
    }
}
