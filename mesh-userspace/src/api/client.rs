//! The client of the API, over the unix socket.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;

use super::client_error::ClientError;
use super::types::{
    BackendView, DrainProgress, Explanation, FlowCount, FlowView, GuardView, HeartbeatReport,
    MaintenanceReport, OrderReport, ReloadReport, ServiceView, SplitReport, Status, TraceLine,
};
use crate::agent::flows::{FlowFilter, FlowKey};
use crate::config::Admittance;
use crate::events::Event;

/// Longer than the agent lets its loop take for a reload, so that its own answer arrives.
pub(super) const TIMEOUT: Duration = Duration::from_secs(35);

/// As long as somebody wants to watch.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The host in the URL is for form only: the socket decides who answers.
const BASE: &str = "http://meshlb/v1/";

/// Talks to one agent.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    /// A client of the agent at `socket`; connects with the first question.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder().unix_socket(socket).no_proxy().timeout(TIMEOUT).build();
        let socket = socket.to_owned();
        match http {
            Ok(http) => Ok(Self { http, socket }),
            Err(error) => Err(ClientError::Connection { socket, reason: root(&error) }),
        }
    }

    /// The agent at a glance.
    ///
    /// # Errors
    /// When the agent does not answer or refuses.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.send(Method::GET, &["status"], None).await
    }

    /// Every service.
    ///
    /// # Errors
    /// When the agent does not answer or refuses.
    pub async fn services(&self) -> Result<Vec<ServiceView>, ClientError> {
        self.send(Method::GET, &["services"], None).await
    }

    /// The backends of one service, or of all.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such service.
    pub async fn backends(&self, service: Option<&str>) -> Result<Vec<BackendView>, ClientError> {
        self.send(Method::GET, &["backends"], service.map(|s| ("service", s.to_owned()))).await
    }

    /// At most `limit` flows.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such service or backend.
    pub async fn flows(&self, filter: &FlowFilter, limit: usize) -> Result<Vec<FlowView>, ClientError> {
        self.send(Method::GET, &["flows"], of_flows(filter, limit)).await
    }

    /// How many flows there are by something, most first: at most `limit` lines.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such service or backend.
    pub async fn flow_counts(
        &self,
        filter: &FlowFilter,
        by: FlowKey,
        limit: usize,
    ) -> Result<Vec<FlowCount>, ClientError> {
        self.send(Method::GET, &["flows", "by", by.name()], of_flows(filter, limit)).await
    }

    /// What would become of a packet, in hexadecimal digits, and what if `down` and `weights`, such as `10.0.1.1=50`, were
    /// otherwise.
    ///
    /// # Errors
    /// When the agent does not answer, cannot run the packet, or knows no such interface or backend.
    pub async fn explain(
        &self,
        packet: String,
        interface: Option<&str>,
        down: &[IpAddr],
        weights: &[String],
    ) -> Result<Explanation, ClientError> {
        let interface = interface.map(|name| ("interface", name.to_owned()));
        let down = down.iter().map(|address| ("down", address.to_string()));
        let weights = weights.iter().map(|weight| ("weight", weight.clone()));
        let query = [("packet", packet)].into_iter().chain(interface).chain(down).chain(weights);
        self.send(Method::GET, &["explain"], query).await
    }

    /// What happened, oldest first: at most `limit` events, with a larger number than `after`, not older than `since`, of
    /// one service or of all.
    ///
    /// # Errors
    /// When the agent does not answer or refuses.
    pub async fn events(
        &self,
        after: Option<u64>,
        since: Option<Duration>,
        service: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Event>, ClientError> {
        let query = [("limit", limit.to_string())]
            .into_iter()
            .chain(after.map(|after| ("after", after.to_string())))
            .chain(since.map(|since| ("since_seconds", since.as_secs().to_string())))
            .chain(service.map(|service| ("service", service.to_owned())));
        self.send(Method::GET, &["events"], query).await
    }

    /// Has the agent read its configuration again.
    ///
    /// # Errors
    /// When the agent does not answer, or refuses the configuration, which then changes nothing.
    pub async fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.send(Method::POST, &["reload"], None).await
    }

    /// What a reload would do.
    ///
    /// # Errors
    /// When the agent does not answer, or would refuse the configuration.
    pub async fn reload_plan(&self) -> Result<ReloadReport, ClientError> {
        self.send(Method::POST, &["reload"], Some(("dry_run", "true".to_owned()))).await
    }

    /// Gives a backend no new flows.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such backend.
    pub async fn drain(&self, service: &str, backend: IpAddr) -> Result<OrderReport, ClientError> {
        self.about(Method::POST, service, backend, "drain", None).await
    }

    /// Gives a drained backend new flows again.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such backend.
    pub async fn undrain(&self, service: &str, backend: IpAddr) -> Result<OrderReport, ClientError> {
        self.about(Method::POST, service, backend, "undrain", None).await
    }

    /// How far a drain is.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such backend.
    pub async fn drain_progress(&self, service: &str, backend: IpAddr) -> Result<DrainProgress, ClientError> {
        self.about(Method::GET, service, backend, "drain", None).await
    }

    /// Gives a backend another weight, or that of the configuration.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such backend.
    pub async fn weight(
        &self,
        service: &str,
        backend: IpAddr,
        weight: Option<u16>,
    ) -> Result<OrderReport, ClientError> {
        let query = weight.map(|weight| ("weight", weight.to_string()));
        self.about(Method::POST, service, backend, "weight", query).await
    }

    /// Gives groups of a service other shares of its new flows.
    ///
    /// # Errors
    /// When the agent does not answer, or the service's split has no such groups.
    pub async fn split(
        &self,
        service: &str,
        shares: &BTreeMap<String, u16>,
    ) -> Result<SplitReport, ClientError> {
        let query = shares.iter().map(|(group, share)| (group.as_str(), share.to_string()));
        self.send(Method::POST, &["services", service, "split"], query).await
    }

    /// Gives the groups of a service the shares of the configuration.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such service.
    pub async fn reset_split(&self, service: &str) -> Result<SplitReport, ClientError> {
        self.send(Method::DELETE, &["services", service, "split"], None).await
    }

    /// Reports that a backend is well, or why it fails.
    ///
    /// # Errors
    /// When the agent does not answer, knows no such backend, or does not wait for its reports.
    pub async fn heartbeat(
        &self,
        service: &str,
        backend: IpAddr,
        failing: Option<String>,
        load: Option<f64>,
    ) -> Result<HeartbeatReport, ClientError> {
        let failing = failing.map(|reason| ("failing", reason));
        let query = failing.into_iter().chain(load.map(|load| ("load", load.to_string())));
        self.about(Method::POST, service, backend, "heartbeat", query).await
    }

    /// Whom guarded services serve.
    ///
    /// # Errors
    /// When the agent does not answer or refuses.
    pub async fn guards(&self) -> Result<Vec<GuardView>, ClientError> {
        self.send(Method::GET, &["guards"], None).await
    }

    /// Lets clients of a service in, or keeps them out, for a while or until that is taken back.
    ///
    /// # Errors
    /// When the agent does not answer, or knows no such service.
    pub async fn guard(
        &self,
        service: &str,
        clients: IpNet,
        admittance: Admittance,
        lasting: Option<Duration>,
    ) -> Result<GuardView, ClientError> {
        let seconds = lasting.map(|lasting| ("seconds", lasting.as_secs().to_string()));
        let query = [("clients", clients.to_string()), ("admittance", admittance.to_string())];
        self.send(Method::POST, &["services", service, "guard"], query.into_iter().chain(seconds)).await
    }

    /// Treats clients of a service as configured again.
    ///
    /// # Errors
    /// When the agent does not answer, knows no such service, or nothing is ordered about these clients.
    pub async fn forget_clients(&self, service: &str, clients: IpNet) -> Result<GuardView, ClientError> {
        let query = [("clients", clients.to_string())];
        self.send(Method::DELETE, &["services", service, "guard"], query).await
    }

    /// Begins work on a host, for a while or until it is ended.
    ///
    /// # Errors
    /// When the agent does not answer, or no service has such a backend.
    pub async fn begin_maintenance(
        &self,
        backend: IpAddr,
        reason: String,
        lasting: Option<Duration>,
    ) -> Result<MaintenanceReport, ClientError> {
        let seconds = lasting.map(|lasting| ("seconds", lasting.as_secs().to_string()));
        let query = [("reason", reason)].into_iter().chain(seconds);
        self.send(Method::POST, &["maintenance", &backend.to_string()], query).await
    }

    /// Ends work on a host.
    ///
    /// # Errors
    /// When the agent does not answer, or no service has such a backend.
    pub async fn end_maintenance(&self, backend: IpAddr) -> Result<MaintenanceReport, ClientError> {
        self.send(Method::DELETE, &["maintenance", &backend.to_string()], None).await
    }

    /// Packets as they are balanced, which the parameters say.
    ///
    /// # Errors
    /// When the agent does not answer or refuses: somebody may be watching already.
    pub async fn trace(&self, parameters: &[(&str, String)]) -> Result<Trace, ClientError> {
        let url = self.url(&["trace"], parameters.iter().cloned())?;
        let response = self.http.get(url).timeout(FOREVER).send().await.map_err(|e| self.failed(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(Trace { client: self.clone(), response, bytes: Vec::new() });
        }
        let body = response.bytes().await.map_err(|e| self.failed(&e))?;
        Err(ClientError::Refusal { status: status.as_u16(), body: self.decode(status.as_u16(), &body)? })
    }

    /// Asks or says something about a backend of a service.
    async fn about<T: DeserializeOwned>(
        &self,
        method: Method,
        service: &str,
        backend: IpAddr,
        what: &str,
        query: impl IntoIterator<Item = (&str, String)>,
    ) -> Result<T, ClientError> {
        self.send(method, &["services", service, "backends", &backend.to_string(), what], query).await
    }

    async fn send<'a, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<T, ClientError> {
        let url = self.url(path, query)?;
        let response = self.http.request(method, url).send().await.map_err(|e| self.failed(&e))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| self.failed(&e))?;
        if status.is_success() {
            return self.decode(status.as_u16(), &body);
        }
        Err(ClientError::Refusal { status: status.as_u16(), body: self.decode(status.as_u16(), &body)? })
    }

    /// Encodes each segment, so that an IPv6 address or an odd name stays one segment.
    fn url<'a>(
        &self,
        path: &[&str],
        query: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<Url, ClientError> {
        let mut url = Url::parse(BASE).map_err(|e| self.connection(e.to_string()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        for (key, value) in query {
            url.query_pairs_mut().append_pair(key, &value);
        }
        Ok(url)
    }

    fn decode<T: DeserializeOwned>(&self, status: u16, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::NotUnderstood {
            socket: self.socket.clone(),
            status,
            reason: error.to_string(),
        })
    }

    fn failed(&self, error: &reqwest::Error) -> ClientError {
        let socket = self.socket.clone();
        if error.is_timeout() {
            return ClientError::Timeout { socket };
        }
        match io_kind(error) {
            Some(io::ErrorKind::NotFound) => ClientError::NoSocket { socket },
            Some(io::ErrorKind::ConnectionRefused) => ClientError::Refused { socket },
            Some(io::ErrorKind::PermissionDenied) => ClientError::Permission { socket },
            _ => self.connection(root(error)),
        }
    }

    fn connection(&self, reason: String) -> ClientError {
        ClientError::Connection { socket: self.socket.clone(), reason }
    }
}

/// Packets that are watched, until this is dropped.
#[derive(Debug)]
pub struct Trace {
    client: Client,
    response: reqwest::Response,
    /// What has arrived and is no whole line yet.
    bytes: Vec<u8>,
}

impl Trace {
    /// The next line; none when the agent has said all. Nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// When the connection breaks, or what it says is not understood.
    pub async fn next(&mut self) -> Result<Option<TraceLine>, ClientError> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return self.client.decode(self.response.status().as_u16(), &line).map(Some);
            }
            match self.response.chunk().await.map_err(|e| self.client.failed(&e))? {
                Some(chunk) => self.bytes.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

fn of_flows(filter: &FlowFilter, limit: usize) -> impl Iterator<Item = (&'static str, String)> {
    let FlowFilter { service, client, backend, state } = filter;
    [("limit", limit.to_string())]
        .into_iter()
        .chain(service.clone().map(|service| ("service", service)))
        .chain(client.map(|client| ("client", client.to_string())))
        .chain(backend.map(|backend| ("backend", backend.to_string())))
        .chain(state.map(|state| ("state", state.name().to_owned())))
}

/// The chain of causes, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error).find_map(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind)
}

fn root(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
