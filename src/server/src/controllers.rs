//! The controllers: which ones run, how this one stands, and what only the leader can tell.
//!
//! Every controller serves everything that is in etcd, reads and writes. How it stands with Mesos is known to the
//! leader alone: `/v1/leader` is passed on to it, once. A request that was passed on and reaches a controller that does
//! not lead either is refused there, and the leader has [`PATIENCE`] to answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use overlord_api::{Leader, Registration, Role, Standing, keys};
use overlord_store::Fetch;

use crate::{
    api::ApiState,
    error::ApiError,
    read::{self, Stored},
    view::{CheckView, ControllerView, ErrorCode, ListView, ReadyView},
};

/// Tells how the controller stands that this API belongs to.
pub type Stands = Arc<dyn Fn() -> Standing + Send + Sync>;

/// Names the controller that passes a request on.
const PASSED_ON_BY: &str = "overlord-passed-on-by";

/// Carries what people should know of an answer.
pub const WARNING: &str = "overlord-warning";

/// How long the leader may take to answer another controller.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The same for a probe, which is not waited for long itself.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// Most bytes of the leader's answer.
const MAX_ANSWER: usize = 64 * 1024;

/// `GET /v1/controllers`
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<ListView<ControllerView>>, ApiError> {
    let listing = state.store.list(keys::CONTROLLERS, Fetch::Values).await?;
    let found = state.store.get(keys::LEADER).await?;
    let leader = found.entries.first().map(|entry| (entry.create_revision, Stored::<Leader>::of(entry)));
    let (epoch, leader) = leader.map_or((None, None), |(epoch, leader)| (Some(epoch), leader.value));
    let mut controllers: BTreeMap<String, ControllerView> = BTreeMap::new();
    for entry in &listing.entries {
        let id = entry.key.strip_prefix(keys::CONTROLLERS).unwrap_or(&entry.key).to_owned();
        let stored = Stored::<Registration>::of(entry);
        controllers.insert(
            id.clone(),
            ControllerView {
                id,
                role: Role::Standby,
                api: stored.value.as_ref().map(|entry| entry.api.clone()),
                program: stored.value.as_ref().map(|entry| entry.program.clone()),
                since: stored.value.as_ref().map(|entry| entry.since),
                epoch: None,
                error: stored.error,
            },
        );
    }
    if let Some(leader) = leader {
        // It may lead a moment before it is listed.
        let view = controllers.entry(leader.id.clone()).or_insert_with(|| ControllerView {
            id: leader.id,
            role: Role::Leader,
            api: Some(leader.api),
            program: None,
            since: None,
            epoch: None,
            error: None,
        });
        (view.role, view.epoch) = (Role::Leader, epoch);
    }
    let mut items: Vec<ControllerView> = controllers.into_values().collect();
    items.sort_by_key(|view| view.role != Role::Leader);
    Ok(Json(ListView { items, store_revision: listing.revision }))
}

/// `GET /v1/leader`
pub(crate) async fn leader(
    State(state): State<ApiState>,
    headers: HeaderMap,
) -> Result<Json<Standing>, ApiError> {
    let own = state.stands.as_ref().map(|stands| stands());
    if let Some(own) = own.as_ref().filter(|own| own.role == Role::Leader) {
        return Ok(Json(own.clone()));
    }
    if let Some(by) = headers.get(PASSED_ON_BY) {
        return Err(ApiError::new(
            ErrorCode::NoLeader,
            format!(
                "{} takes this controller for the leader, which it is not",
                by.to_str().unwrap_or("somebody")
            ),
            "ask again in a moment: the leadership is changing",
        ));
    }
    let leader: Stored<Leader> = read::json(&*state.store, keys::LEADER).await?;
    let Some(leader) = leader.value else {
        return Err(ApiError::new(
            ErrorCode::NoLeader,
            leader.error.unwrap_or_else(|| "no controller leads".to_owned()),
            "`overlord get controllers` lists those that run; the log of each tells why it does not lead",
        ));
    };
    let id = own.map_or_else(|| "a controller".to_owned(), |own| own.id);
    ask(&leader, &id, PATIENCE).await.map(Json)
}

/// Asks the leader how it stands.
pub(crate) async fn ask(leader: &Leader, id: &str, patience: Duration) -> Result<Standing, ApiError> {
    let unreachable = |why: String| {
        ApiError::new(
            ErrorCode::LeaderUnreachable,
            format!("the leader {} is asked at {} and does not answer: {why}", leader.id, leader.api),
            "if it listens elsewhere, set [api] advertise there; if it hangs, stop it, and another one takes over",
        )
    };
    let http = client().ok_or_else(|| unreachable("no HTTP client can be made".to_owned()))?;
    let asked = async {
        let id = HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("a controller"));
        let request = http.get(format!("{}/v1/leader", leader.api.trim_end_matches('/')));
        let mut response =
            request.header(PASSED_ON_BY, id).send().await.map_err(|error| root_cause(&error))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| root_cause(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err("its answer is too large".to_owned());
            }
        }
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => answer.map_err(unreachable),
        Err(_) => Err(unreachable(format!("nothing came within {} s", patience.as_secs()))),
    }
}

/// Made when it is needed first, and kept. Controllers speak plain HTTP to each other; a proxy for the web knows
/// nothing of them.
fn client() -> Option<&'static reqwest::Client> {
    static CLIENT: OnceLock<Option<reqwest::Client>> = OnceLock::new();
    let build = || {
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        builder.redirect(reqwest::redirect::Policy::none()).connect_timeout(PATIENCE).build().ok()
    };
    CLIENT.get_or_init(build).as_ref()
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// `GET /readyz`. Ready is who can serve this API: etcd answers. The other checks are for people, and for alarms:
/// that nobody leads is no reason to take a controller out of service that can take requests for whoever will.
pub(crate) async fn ready(State(state): State<ApiState>) -> Response {
    use axum::{http::StatusCode, response::IntoResponse as _};
    let own = state.stands.as_ref().map(|stands| stands());
    let (etcd, leader) = match read::json::<Leader>(&*state.store, keys::LEADER).await {
        Ok(stored) => (CheckView::good("etcd", "it answers"), Some(stored)),
        Err(error) => (CheckView::bad("etcd", error.to_string()), None),
    };
    let ready = etcd.ok;
    let mut checks = vec![etcd];
    if let Some(own) = &own {
        checks.push(match own.stale_since {
            _ if !own.synced => CheckView::bad("view", "etcd has not been read yet"),
            Some(since) => CheckView::bad("view", format!("not kept up to date since {since}")),
            None => CheckView::good("view", "kept up to date"),
        });
    }
    let leader = leader.and_then(|leader| {
        let (check, leader) = match (leader.value, leader.error) {
            (Some(leader), _) => {
                (CheckView::good("leader", format!("{} at {}", leader.id, leader.api)), Some(leader))
            }
            (None, Some(error)) => (CheckView::bad("leader", error), None),
            (None, None) => (CheckView::bad("leader", nobody_leads(own.as_ref())), None),
        };
        checks.push(check);
        leader
    });
    let told = match (&own, &leader) {
        (Some(own), _) if own.role == Role::Leader => Some(Ok(own.clone())),
        (Some(own), Some(leader)) => Some(ask(leader, &own.id, PROBE_PATIENCE).await),
        _ => None,
    };
    match told {
        Some(Ok(Standing { mesos: Some(mesos), .. })) => {
            let ok = mesos.state == overlord_api::MesosState::Subscribed;
            let since = mesos.since.map(|since| format!(" since {since}")).unwrap_or_default();
            let why = if mesos.message.is_empty() { String::new() } else { format!(": {}", mesos.message) };
            let message = format!("{}{since}{why}", mesos.state);
            checks.push(CheckView { name: "mesos".to_owned(), ok, message });
        }
        Some(Ok(_)) => checks.push(CheckView::bad("mesos", "the leader says nothing of it")),
        Some(Err(error)) => checks.push(CheckView::bad("mesos", error.into_message())),
        None => {}
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let view = ReadyView {
        ready,
        leader: leader.map(|leader| leader.id),
        role: own.as_ref().map(|own| own.role),
        checks,
    };
    (status, Json(view)).into_response()
}

/// Says so with each answer while nobody keeps status up to date.
pub(crate) async fn warn(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let own = state.stands.as_ref().map(|stands| stands());
    if own.as_ref().is_some_and(|own| own.synced && own.no_leader_since.is_some())
        && let Ok(warning) = HeaderValue::from_str(&nobody_leads(own.as_ref()))
    {
        response.headers_mut().insert(HeaderName::from_static(WARNING), warning);
    }
    response
}

fn nobody_leads(own: Option<&Standing>) -> String {
    match own.and_then(|own| own.no_leader_since) {
        Some(since) => {
            format!("no controller leads since {since}: what is shown of clusters is as it was then")
        }
        None => "no controller leads".to_owned(),
    }
}
