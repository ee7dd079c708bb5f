//! The HTTP client that all probes share.
//!
//! Invariant: no redirects, no proxies, no connection is used twice: a probe tells about the backend, now.

use std::time::Duration;

use reqwest::redirect::Policy;

/// Sends the requests of HTTP probes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Result<reqwest::Client, String>);

impl Client {
    /// A client, or one whose every request fails locally with the reason why it could not be made.
    #[must_use]
    pub fn new() -> Self {
        let client = reqwest::Client::builder()
            .user_agent(concat!("meshlb/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .http1_only()
            .build();
        Self(client.map_err(|error| error.to_string()))
    }

    /// A request that ends after `timeout`, or why there is no client.
    pub(super) fn get(&self, url: &str, timeout: Duration) -> Result<reqwest::RequestBuilder, String> {
        let client = self.0.as_ref().map_err(Clone::clone)?;
        Ok(client.get(url).timeout(timeout))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}
