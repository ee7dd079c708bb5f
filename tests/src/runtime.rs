//! A tokio runtime whose threads all live in one host's namespace.
//!
//! Invariant: a future given to it never runs on the caller's own thread, which is somewhere else.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::namespace::Namespace;

/// Runs futures inside a host. Dropping it drops them.
#[derive(Debug)]
pub struct HostRuntime {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl HostRuntime {
    pub(crate) fn start(namespace: &Namespace, threads: usize) -> Result<Self> {
        let build = || Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        // Threads are born in the namespace of the one that starts them.
        let runtime = namespace.run(build)?.context("cannot start a runtime")?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Starts a future and leaves it running.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs a future to its end while the calling thread waits. Fails if the future panics.
    pub fn block_on<F>(&self, future: F) -> Result<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.handle.spawn(async move { sender.send(future.await) });
        receiver.recv().context("the future panicked or its runtime ended")
    }

    /// Drops every future now and waits until that is done, at most `within`.
    pub fn stop(mut self, within: Duration) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(within);
        }
    }
}

impl Drop for HostRuntime {
    fn drop(&mut self) {
        // In the background, since the last owner may be one of its own futures.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
