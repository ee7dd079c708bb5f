//! The API's routes.
//!
//! Invariant: no handler reads a body, so that no request can make the agent buffer one; lists are bounded.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use ipnet::IpNet;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::explain;
use super::failure::Failure;
use super::handle::AgentHandle;
use super::listener::Bounded;
use super::probes;
use super::socket::ApiSocket;
use super::trace;
use super::types::{
    BackendView, DrainProgress, FlowCount, FlowView, GuardView, HeartbeatReport, MaintenanceReport,
    OrderReport, ReloadReport, ServiceView, SplitReport, Status,
};
use super::{DEFAULT_EVENTS, DEFAULT_FLOWS, MAX_FLOWS};
use crate::agent::Command;
use crate::agent::command::Order;
use crate::agent::flows::{FlowFilter, FlowKey, FlowState};
use crate::config::Admittance;
use crate::events::{Event, Question};
use crate::health::{self, MOST_LOAD, Report};
use crate::nearest;
use crate::overrides::{ClientOrder, Maintenance};

/// Answers under way get this long to finish when the agent stops.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) type Answer<T> = Result<Json<T>, Failure>;

/// Serves the API on `socket` until `shutdown`, then removes the socket.
///
/// # Errors
/// When the socket fails for good.
pub async fn serve(socket: ApiSocket, agent: AgentHandle, shutdown: CancellationToken) -> io::Result<()> {
    let (listener, _owned) = socket.into_parts();
    serve_on(listener, router(agent), shutdown).await
}

/// Serves `app` on any listener until `shutdown` and a moment longer.
pub(crate) async fn serve_on<L>(listener: L, app: Router, shutdown: CancellationToken) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let asked = shutdown.clone();
    let server = axum::serve(Bounded::new(listener), app)
        .with_graceful_shutdown(async move { asked.cancelled().await })
        .into_future();
    let too_long = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = server => result,
        () = too_long => Ok(()),
    }
}

fn router(agent: AgentHandle) -> Router {
    looks()
        .route("/v1/flows", get(flows))
        .route("/v1/flows/by/{key}", get(flow_counts))
        .route("/v1/explain", get(explain::explain))
        .route("/v1/trace", get(trace::trace))
        .route("/v1/reload", post(reload))
        .route("/v1/services/{service}/backends/{address}/drain", get(drain_progress))
        .merge(drains())
        .route("/v1/services/{service}/backends/{address}/weight", post(weight))
        .route("/v1/services/{service}/backends/{address}/heartbeat", post(heartbeat))
        .route("/v1/services/{service}/split", post(split).delete(reset_split))
        .route("/v1/guards", get(guards))
        .route("/v1/services/{service}/guard", post(guard).delete(forget_clients))
        .route("/v1/maintenance/{address}", post(begin_maintenance).delete(end_maintenance))
        .merge(probes::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent)
}

/// What the web page shows, too: everything about everybody, and what happened.
pub(crate) fn looks() -> Router<AgentHandle> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/backends", get(backends))
        .route("/v1/events", get(events))
}

/// Orders that the web page gives, too.
pub(crate) fn drains() -> Router<AgentHandle> {
    Router::new()
        .route("/v1/services/{service}/backends/{address}/drain", post(drain))
        .route("/v1/services/{service}/backends/{address}/undrain", post(undrain))
}

async fn status(State(agent): State<AgentHandle>) -> Answer<Status> {
    agent.ask(Command::Status).await.map(Json)
}

async fn services(State(agent): State<AgentHandle>) -> Answer<Vec<ServiceView>> {
    agent.ask(Command::Services).await.map(Json)
}

#[derive(Deserialize)]
struct BackendsQuery {
    service: Option<String>,
}

async fn backends(
    State(agent): State<AgentHandle>,
    query: Result<Query<BackendsQuery>, QueryRejection>,
) -> Answer<Vec<BackendView>> {
    let Query(query) = query?;
    let all = agent.ask(Command::Backends).await?;
    let Some(service) = query.service else { return Ok(Json(all)) };
    let some: Vec<_> = all.into_iter().filter(|b| b.service == service).collect();
    if some.is_empty() {
        require_service(&agent, &service).await?;
    }
    Ok(Json(some))
}

/// Tells a service without backends from a name that no service has.
async fn require_service(agent: &AgentHandle, name: &str) -> Result<(), Failure> {
    let services = agent.ask(Command::Services).await?;
    if services.iter().any(|s| s.name == name) {
        return Ok(());
    }
    let advice = nearest::advice(name, services.iter().map(|s| s.name.as_str()), "meshlb services");
    Err(Failure::not_found(format!("there is no service {name:?}")).advise(advice))
}

#[derive(Deserialize)]
struct FlowsQuery {
    limit: Option<usize>,
    service: Option<String>,
    client: Option<IpNet>,
    backend: Option<IpAddr>,
    state: Option<FlowState>,
}

impl FlowsQuery {
    fn split(self) -> (FlowFilter, usize) {
        let Self { limit, service, client, backend, state } = self;
        (FlowFilter { service, client, backend, state }, limit.unwrap_or(DEFAULT_FLOWS).min(MAX_FLOWS))
    }
}

async fn flows(
    State(agent): State<AgentHandle>,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Answer<Vec<FlowView>> {
    let Query(query) = query?;
    let (filter, limit) = query.split();
    Ok(Json(agent.ask(|reply| Command::Flows { filter, limit, reply }).await??))
}

async fn flow_counts(
    State(agent): State<AgentHandle>,
    by: Result<Path<FlowKey>, PathRejection>,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Answer<Vec<FlowCount>> {
    let Query(query) = query?;
    let Path(by) = by?;
    let (filter, limit) = query.split();
    Ok(Json(agent.ask(|reply| Command::FlowCounts { filter, by, limit, reply }).await??))
}

#[derive(Deserialize)]
struct EventsQuery {
    /// Those with a larger number.
    after: Option<u64>,
    /// Those of the last so many seconds.
    since_seconds: Option<u64>,
    service: Option<String>,
    limit: Option<usize>,
}

async fn events(
    State(agent): State<AgentHandle>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<Vec<Event>> {
    let Query(EventsQuery { after, since_seconds, service, limit }) = query?;
    // What began before time did is everything.
    let since = since_seconds.and_then(|age| SystemTime::now().checked_sub(Duration::from_secs(age)));
    let question = Question { after, since, service, limit: limit.unwrap_or(DEFAULT_EVENTS) };
    Ok(Json(agent.ask(|reply| Command::Events { question, reply }).await?))
}

#[derive(Deserialize)]
struct ReloadQuery {
    #[serde(default)]
    dry_run: bool,
}

async fn reload(
    State(agent): State<AgentHandle>,
    query: Result<Query<ReloadQuery>, QueryRejection>,
) -> Answer<ReloadReport> {
    let Query(ReloadQuery { dry_run }) = query?;
    Ok(Json(agent.ask_reload(|reply| Command::Reload { dry_run, reply }).await??))
}

/// `{service}` and `{address}` of a path, decoded.
type BackendPath = Result<Path<(String, String)>, PathRejection>;

async fn drain(State(agent): State<AgentHandle>, path: BackendPath) -> Answer<OrderReport> {
    order(&agent, path, Order::Drain).await
}

async fn undrain(State(agent): State<AgentHandle>, path: BackendPath) -> Answer<OrderReport> {
    order(&agent, path, Order::Undrain).await
}

#[derive(Deserialize)]
struct WeightQuery {
    weight: Option<u16>,
}

async fn weight(
    State(agent): State<AgentHandle>,
    path: BackendPath,
    query: Result<Query<WeightQuery>, QueryRejection>,
) -> Answer<OrderReport> {
    let Query(query) = query?;
    order(&agent, path, Order::Weight(query.weight)).await
}

async fn order(agent: &AgentHandle, path: BackendPath, order: Order) -> Answer<OrderReport> {
    let (service, backend) = backend_of(path)?;
    Ok(Json(agent.ask(|reply| Command::Order { service, backend, order, reply }).await??))
}

async fn drain_progress(State(agent): State<AgentHandle>, path: BackendPath) -> Answer<DrainProgress> {
    let (service, backend) = backend_of(path)?;
    Ok(Json(agent.ask(|reply| Command::DrainProgress { service, backend, reply }).await??))
}

/// Shares by the names of groups.
async fn split(
    State(agent): State<AgentHandle>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, u16>>, QueryRejection>,
) -> Answer<SplitReport> {
    let Query(shares) = query?;
    if shares.is_empty() {
        return Err(Failure::bad_request("no group is named")
            .advise("name groups and their shares, such as ?canary=20"));
    }
    order_split(&agent, path, Some(shares)).await
}

async fn reset_split(
    State(agent): State<AgentHandle>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<SplitReport> {
    order_split(&agent, path, None).await
}

async fn order_split(
    agent: &AgentHandle,
    path: Result<Path<String>, PathRejection>,
    shares: Option<BTreeMap<String, u16>>,
) -> Answer<SplitReport> {
    let Path(service) = path?;
    Ok(Json(agent.ask(|reply| Command::Split { service, shares, reply }).await??))
}

/// Longest text that a backend or an operator may leave: bytes.
const LONGEST_TEXT: usize = 500;

#[derive(Deserialize)]
struct HeartbeatQuery {
    failing: Option<String>,
    load: Option<f64>,
}

async fn heartbeat(
    State(agent): State<AgentHandle>,
    path: BackendPath,
    query: Result<Query<HeartbeatQuery>, QueryRejection>,
) -> Answer<HeartbeatReport> {
    let Query(HeartbeatQuery { failing, load }) = query?;
    if load.is_some_and(|number| health::load(number).is_none()) {
        return Err(Failure::bad_request(format!("a load is a number from 0 to {MOST_LOAD}")));
    }
    let (name, backend) = backend_of(path)?;
    let failing = failing.map(short).transpose()?;
    let report = failing.clone().map_or(Report::Well, Report::Failing);
    let service = name.clone();
    agent.ask(|reply| Command::Heartbeat { service, backend, report, load, reply }).await??;
    Ok(Json(HeartbeatReport { service: name, backend: backend.to_string(), failing, load }))
}

/// The time in so many seconds.
fn after(seconds: u64) -> Result<SystemTime, Failure> {
    let end = SystemTime::now().checked_add(Duration::from_secs(seconds));
    end.ok_or_else(|| Failure::bad_request("no order lasts so long"))
}

async fn guards(State(agent): State<AgentHandle>) -> Answer<Vec<GuardView>> {
    agent.ask(Command::Guards).await.map(Json)
}

#[derive(Deserialize)]
struct GuardQuery {
    clients: IpNet,
    #[serde(default)]
    admittance: Option<Admittance>,
    /// How long. Seconds.
    seconds: Option<u64>,
}

async fn guard(
    State(agent): State<AgentHandle>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<GuardQuery>, QueryRejection>,
) -> Answer<GuardView> {
    let Query(GuardQuery { clients, admittance, seconds }) = query?;
    let admittance = admittance.unwrap_or(Admittance::Deny);
    let order = ClientOrder { admittance, until: seconds.map(after).transpose()? };
    order_clients(&agent, path, clients, Some(order)).await
}

async fn forget_clients(
    State(agent): State<AgentHandle>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<GuardQuery>, QueryRejection>,
) -> Answer<GuardView> {
    let Query(GuardQuery { clients, .. }) = query?;
    order_clients(&agent, path, clients, None).await
}

async fn order_clients(
    agent: &AgentHandle,
    path: Result<Path<String>, PathRejection>,
    clients: IpNet,
    order: Option<ClientOrder>,
) -> Answer<GuardView> {
    let Path(service) = path?;
    // Bits behind the prefix say nothing.
    let clients = clients.trunc();
    Ok(Json(agent.ask(|reply| Command::Guard { service, clients, order, reply }).await??))
}

#[derive(Deserialize)]
struct MaintenanceQuery {
    #[serde(default)]
    reason: String,
    /// How long. Seconds.
    seconds: Option<u64>,
}

async fn begin_maintenance(
    State(agent): State<AgentHandle>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<MaintenanceQuery>, QueryRejection>,
) -> Answer<MaintenanceReport> {
    let Query(MaintenanceQuery { reason, seconds }) = query?;
    let work = Maintenance { reason: short(reason)?, until: seconds.map(after).transpose()? };
    maintain(&agent, path, Some(work)).await
}

async fn end_maintenance(
    State(agent): State<AgentHandle>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<MaintenanceReport> {
    maintain(&agent, path, None).await
}

async fn maintain(
    agent: &AgentHandle,
    path: Result<Path<String>, PathRejection>,
    work: Option<Maintenance>,
) -> Answer<MaintenanceReport> {
    let Path(address) = path?;
    let backend = address_of(&address)?;
    Ok(Json(agent.ask(|reply| Command::Maintain { backend, work, reply }).await??))
}

/// A text of one line that is shown in tables.
fn short(text: String) -> Result<String, Failure> {
    if text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
        let what = format!("a reason is one line of at most {LONGEST_TEXT} bytes");
        return Err(Failure::bad_request(what));
    }
    Ok(text)
}

fn backend_of(path: BackendPath) -> Result<(String, IpAddr), Failure> {
    let Path((service, address)) = path?;
    Ok((service, address_of(&address)?))
}

pub(crate) fn address_of(address: &str) -> Result<IpAddr, Failure> {
    address.parse().map_err(|_not_an_address| {
        Failure::bad_request(format!("{address} is not an IP address"))
            .advise("name the backend by its address, as meshlb backends lists it")
    })
}

/// The parameters of a request, decoded; some may come more than once.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, Failure> {
    let Query(pairs) = Query::try_from_uri(
        &format!("/?{query}").parse::<Uri>().map_err(|error| Failure::bad_request(error.to_string()))?,
    )?;
    Ok(pairs)
}

pub(crate) async fn no_such_path(uri: Uri) -> Failure {
    Failure::not_found(format!("there is no {} here", uri.path()))
        .advise("a client of another version than the agent? GET /v1/status says the agent's")
}

pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}
