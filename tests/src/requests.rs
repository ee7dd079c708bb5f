//! Requests one after the other, for as long as a test goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::client::Client;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(5);

/// Requests without an end, each over a connection of its own.
#[derive(Debug)]
pub struct Requests {
    end: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Requests {
    /// Begins.
    #[must_use]
    pub fn start(client: Client, service: SocketAddr) -> Self {
        let (end, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (is_over, count) = (Arc::clone(&end), Arc::clone(&done));
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                failures.extend(client.get(service).err().map(|error| format!("{error:#}")));
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
            failures
        });
        Self { end, done, thread }
    }

    /// Ends them: how many there were, and how some failed.
    pub fn finish(self) -> Result<(usize, Vec<String>)> {
        self.end.store(true, Ordering::Relaxed);
        let failures = self.thread.join().map_err(|_panic| anyhow!("the thread of the requests panicked"))?;
        Ok((self.done.load(Ordering::Relaxed), failures))
    }
}
