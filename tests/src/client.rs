//! Clients inside a host; every request has a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::runtime::HostRuntime;

/// For the handshake.
const CONNECT: Duration = Duration::from_secs(2);

/// For a whole short request.
const REQUEST: Duration = Duration::from_secs(5);

/// An HTTP client inside a host; clones share its runtime.
#[derive(Debug, Clone)]
pub struct Client {
    runtime: Arc<HostRuntime>,
    http: reqwest::Client,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Who answered: the header `x-backend`.
    pub backend: Option<String>,
    /// The client's address as the server saw it: the header `x-client`.
    pub client: Option<SocketAddr>,
    /// The whole body.
    pub body: String,
}

impl Client {
    /// A client whose connections start in `host`.
    pub fn new(host: &Host) -> Result<Self> {
        Self::with_timeout(host, REQUEST)
    }

    /// The same, for tests that expect no answer: a request fails after `timeout`.
    pub fn with_timeout(host: &Host, timeout: Duration) -> Result<Self> {
        let http = builder().timeout(timeout).pool_max_idle_per_host(0).build()?;
        Ok(Self { runtime: Arc::new(host.runtime(1)?), http })
    }

    /// Asks `/` over a new connection. A status other than 2xx is an answer, not an error.
    pub fn get(&self, address: SocketAddr) -> Result<Reply> {
        self.get_path(address, "/")
    }

    /// Asks `path` over a new connection.
    pub fn get_path(&self, address: SocketAddr, path: &str) -> Result<Reply> {
        let request = self.http.get(format!("http://{address}{path}"));
        let exchange = async move { read(request.send().await?).await };
        let outcome: reqwest::Result<Reply> = self.runtime.block_on(exchange)?;
        outcome.with_context(|| format!("no answer from {address}"))
    }

    pub(crate) fn runtime(&self) -> &HostRuntime {
        &self.runtime
    }
}

/// No proxy, whatever the environment says, and a bounded handshake.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().connect_timeout(CONNECT)
}

/// The header as text.
pub(crate) fn header(response: &reqwest::Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

async fn read(response: reqwest::Response) -> reqwest::Result<Reply> {
    let status = response.status().as_u16();
    let backend = header(&response, "x-backend");
    let client = header(&response, "x-client").and_then(|address| address.parse().ok());
    Ok(Reply { status, backend, client, body: response.text().await? })
}
