//! The agent of these tests.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::{Method, StatusCode};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent::command::Order;
use crate::agent::{Command, CommandError};
use crate::api::types::{
    ApiError, BackendView, ClientOrderView, DrainProgress, FlowCount, FlowView, GroupView, GuardView,
    MaintenanceReport, OrderReport, ReloadReport, ServiceView, SplitReport, Status,
};
use crate::api::{AgentHandle, ApiSocket, Client, ClientError, Readiness, Timeouts, serve};
use crate::events::{Happening, Kind, Log};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A served API, and all that is behind it.
pub(super) struct Served {
    pub(super) socket: PathBuf,
    pub(super) readiness: watch::Sender<Readiness>,
    pub(super) shutdown: CancellationToken,
    pub(super) server: JoinHandle<std::io::Result<()>>,
    pub(super) loop_task: JoinHandle<()>,
    _directory: TempDir,
}

/// An API whose commands `behave` answers.
pub(super) fn served(behave: impl Fn(Command) + Send + 'static) -> Served {
    let timeouts = Timeouts { command: PATIENCE, reload: PATIENCE };
    served_with(timeouts, behave)
}

pub(super) fn served_with(timeouts: Timeouts, behave: impl Fn(Command) + Send + 'static) -> Served {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("run/meshlb.sock");
    let (commands, mut received) = mpsc::channel(8);
    let (readiness, ready) = watch::channel(Readiness::NotReady("tables are being filled".into()));
    let loop_task = tokio::spawn(async move {
        while let Some(command) = received.recv().await {
            behave(command);
        }
    });
    let shutdown = CancellationToken::new();
    let agent = AgentHandle::new(commands, ready).with_timeouts(timeouts);
    let bound = ApiSocket::bind(&socket).unwrap();
    let server = tokio::spawn(serve(bound, agent, shutdown.clone()));
    Served { socket, readiness, shutdown, server, loop_task, _directory: directory }
}

impl Served {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.socket).unwrap()
    }

    /// Any request, as a client of another make would send it.
    pub(super) async fn request(&self, method: Method, path: &str) -> (StatusCode, String) {
        request(&self.socket, method, path).await
    }

    /// A request that fails.
    pub(super) async fn failure(&self, method: Method, path: &str) -> (StatusCode, ApiError) {
        let (status, body) = self.request(method, path).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}

pub(super) async fn request(socket: &Path, method: Method, path: &str) -> (StatusCode, String) {
    let http = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let response = http.request(method, format!("http://any{path}")).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

fn guard(service: &str, ordered: &[ClientOrderView]) -> GuardView {
    GuardView { service: service.into(), ordered: ordered.to_vec(), ..GuardView::default() }
}

/// The usual behaviour: service `web` with backends 10.0.0.1 and fd00::1, and `empty` without any.
pub(crate) fn usual(command: Command) {
    match command {
        Command::Status(reply) => reply.send(status()).unwrap(),
        Command::Services(reply) => reply.send(vec![service("web"), service("empty")]).unwrap(),
        Command::Backends(reply) => reply.send(vec![backend("10.0.0.1"), backend("fd00::1")]).unwrap(),
        Command::Events { question, reply } => {
            let happening = Happening::new(Kind::Agent, format!("{question:?}"));
            reply.send(Log::default().note(vec![happening], SystemTime::UNIX_EPOCH)).unwrap();
        }
        Command::Flows { limit, reply, .. } => reply.send(Ok(flows(limit))).unwrap(),
        Command::FlowCounts { filter, by, limit, reply } => {
            let count = FlowCount {
                service: Some(format!("{filter:?}")),
                state: Some(format!("{by:?}")),
                ..FlowCount::default()
            };
            reply.send(Ok(vec![FlowCount { flows: limit as u64, ..count }])).unwrap();
        }
        Command::Bench { interface, reply } => {
            // There is no kernel here.
            let refused = CommandError::not_found(format!("no {interface:?}"));
            assert!(reply.send(Err(refused)).is_ok());
        }
        Command::Watch { wanted, reply } => {
            let refused = CommandError::not_found(format!("no {wanted:?}"));
            assert!(reply.send(Err(refused)).is_ok());
        }
        Command::Explain { .. } | Command::Trace { .. } | Command::Names(_) | Command::TraceNoMore(_) => {
            unreachable!("nothing was run")
        }
        Command::Reload { dry_run, reply } => {
            reply.send(Ok(ReloadReport { dry_run, ..report() })).unwrap();
        }
        Command::Order { service, backend, order, reply } => {
            reply.send(known(&service, backend).map(|()| ordered(&service, backend, order))).unwrap();
        }
        Command::Split { service, shares, reply } => {
            let group = |(name, share): (&String, &u16)| GroupView {
                name: name.clone(),
                share: *share,
                ..GroupView::default()
            };
            let groups = shares.iter().flatten().map(group).collect();
            let report =
                SplitReport { service, groups, is_configured_split: shares.is_none(), forgotten: None };
            reply.send(known(&report.service, "10.0.0.1".parse().unwrap()).map(|()| report)).unwrap();
        }
        Command::Guards(reply) => reply.send(vec![guard("web", &[])]).unwrap(),
        Command::Guard { service, clients, order, reply } => {
            let ordered = order.map(|order| ClientOrderView {
                prefix: clients.to_string(),
                admittance: order.admittance.to_string(),
                remaining_seconds: order.until.map(|_| 1.0),
            });
            let refused = known(&service, "10.0.0.1".parse().unwrap());
            reply.send(refused.map(|()| guard(&service, ordered.as_slice()))).unwrap();
        }
        Command::Maintain { backend, work, reply } => {
            let forgotten = work.as_ref().map(|work| format!("{work:?}"));
            let report = MaintenanceReport {
                backend: backend.to_string(),
                maintenance: work.is_some(),
                forgotten,
                ..MaintenanceReport::default()
            };
            reply.send(known("web", backend).map(|()| report)).unwrap();
        }
        Command::DrainProgress { service, backend, reply } => {
            reply.send(known(&service, backend).map(|()| progress())).unwrap();
        }
        Command::Heartbeat { service, backend, report: _, load: _, reply } => {
            reply.send(known(&service, backend)).unwrap();
        }
        Command::Metrics(reply) => reply.send(crate::metrics::Snapshot::default()).unwrap(),
    }
}

fn ordered(service: &str, backend: IpAddr, order: Order) -> OrderReport {
    let report =
        OrderReport { service: service.into(), backend: backend.to_string(), ..OrderReport::default() };
    match order {
        Order::Drain => OrderReport { draining: true, ..report },
        Order::Undrain => report,
        Order::Weight(weight) => {
            OrderReport { weight: weight.unwrap_or(100), is_configured_weight: weight.is_none(), ..report }
        }
    }
}

pub(super) fn progress() -> DrainProgress {
    DrainProgress { flows: 7, packets: 9, ..DrainProgress::default() }
}

fn known(service: &str, backend: IpAddr) -> Result<(), CommandError> {
    let backends = ["10.0.0.1", "fd00::1"].map(|a| a.parse::<IpAddr>().unwrap());
    if ["web", "a/b %"].contains(&service) && backends.contains(&backend) {
        return Ok(());
    }
    Err(CommandError::not_found(format!("{service} has no backend {backend}")).advise("meshlb backends"))
}

pub(super) fn status() -> Status {
    Status { version: "0.1.0".into(), ready: true, uptime_seconds: 1.5, ..Status::default() }
}

pub(super) fn service(name: &str) -> ServiceView {
    ServiceView { name: name.into(), port: 80, ..ServiceView::default() }
}

pub(super) fn backend(address: &str) -> BackendView {
    BackendView { service: "web".into(), address: address.into(), ..BackendView::default() }
}

pub(super) fn report() -> ReloadReport {
    ReloadReport { changed: true, services_added: vec!["web".into()], ..ReloadReport::default() }
}

/// As many flows as were asked for, up to 150.
fn flows(limit: usize) -> Vec<FlowView> {
    vec![FlowView { service: "web".into(), ..FlowView::default() }; limit.min(150)]
}

/// The status and body of a refusal.
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, ApiError) {
    let error = result.unwrap_err();
    let ClientError::Refusal { status, body } = error else { panic!("{error:?}") };
    (status, body)
}
