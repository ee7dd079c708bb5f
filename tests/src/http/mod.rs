//! An HTTP server inside a host that says who it is, streams slowly, counts, and can be killed.

mod connection;
mod routes;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use self::connection::{Door, Peer};
use crate::host::Host;
use crate::runtime::HostRuntime;

/// How long a killed server's futures may take to be dropped.
const DEATH: Duration = Duration::from_secs(2);

/// A server on one port of all addresses of a host, IPv4 and IPv6, the VIPs on `lo` included.
///
/// - `/` answers the server's name, in the header `x-backend` and in the body, and the client's address as
///   the server sees it in `x-client`.
/// - `/healthz` answers 200, or 503 after [`HttpServer::set_healthy`]`(false)`; in the header `x-load`, what
///   [`HttpServer::set_load`] said.
/// - `/download?chunks=N&size=M&pause_ms=P` streams N chunks of M bytes with a pause of P milliseconds between them.
#[derive(Debug)]
pub struct HttpServer {
    host: Host,
    port: u16,
    facts: Arc<Facts>,
    running: Option<Running>,
}

/// What the routes and the accept loop share with the test.
#[derive(Debug)]
struct Facts {
    name: String,
    healthy: AtomicBool,
    connections: AtomicU64,
    requests: AtomicU64,
    /// Before an answer to a probe: milliseconds.
    pause: AtomicU64,
    /// What it says of its load.
    load: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Running {
    runtime: HostRuntime,
    killed: Arc<AtomicBool>,
}

impl HttpServer {
    /// Starts a server; it listens when this returns.
    pub fn start(host: &Host, port: u16, name: &str) -> Result<Self> {
        let [connections, requests, pause] = [(); 3].map(|()| AtomicU64::new(0));
        let (healthy, load) = (AtomicBool::new(true), Mutex::default());
        let facts = Facts { name: name.into(), healthy, pause, load, connections, requests };
        let mut server = Self { host: host.clone(), port, facts: Arc::new(facts), running: None };
        server.restart()?;
        Ok(server)
    }

    /// What it answers.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// Connections accepted since the first start.
    pub fn connections(&self) -> u64 {
        self.facts.connections.load(Ordering::Relaxed)
    }

    /// Requests begun since the first start, health probes included.
    pub fn requests(&self) -> u64 {
        self.facts.requests.load(Ordering::Relaxed)
    }

    /// Answers probes so much later from now on.
    pub fn set_pause(&self, milliseconds: u64) {
        self.facts.pause.store(milliseconds, Ordering::Relaxed);
    }

    /// Says this of its load from now on, to probes.
    pub fn set_load(&self, load: &str) {
        *self.facts.load.lock().unwrap_or_else(PoisonError::into_inner) = Some(load.to_owned());
    }

    /// Decides what `/healthz` answers from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.facts.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Dies as a crashed process does: the port closes and every connection is reset.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.killed.store(true, Ordering::SeqCst);
            running.runtime.stop(DEATH);
        }
    }

    /// Starts again after [`HttpServer::kill`], or kills and starts.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let runtime = self.host.runtime(1)?;
        let killed = Arc::new(AtomicBool::new(false));
        let address = ("::", self.port);
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let listener =
            listener.with_context(|| format!("cannot listen on port {} of {}", self.port, self.name()))?;
        let door = Door::new(listener, Arc::clone(&self.facts), Arc::clone(&killed));
        let app = routes::routes(Arc::clone(&self.facts)).into_make_service_with_connect_info::<Peer>();
        runtime.spawn(async move { axum::serve(door, app).await });
        self.running = Some(Running { runtime, killed });
        Ok(())
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.kill();
    }
}
