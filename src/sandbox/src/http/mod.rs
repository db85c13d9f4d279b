//! The HTTP front: a master and its agents, each on a listener of its own, as on real machines.

mod auth;
mod body;
mod executor;
mod gate;
mod operator;
mod scheduler;
mod schema;

use std::{
    collections::BTreeMap,
    future::IntoFuture as _,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Body,
    http::{Method, StatusCode, header},
    response::Response,
};
use gate::Gate;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Mesos, StateError,
    config::{Credentials, MesosConfig},
    driver::Driver,
    launcher::Launcher,
    model::{Answer, Standing},
    state_file::{self, Journal},
};

/// The largest request body that is read.
const LARGEST_BODY: usize = 32 << 20;

/// Why a Mesos cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {whom}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The master, or which agent.
        whom: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A work directory has no absolute path.
    #[error("cannot use {} as a work directory", path.display())]
    WorkDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Two agents have one name.
    #[error("two agents are named '{0}'")]
    DuplicateAgent(String),
    /// What an earlier run left cannot be read.
    #[error("cannot take over the state of an earlier run")]
    State(#[from] StateError),
}

/// A Mesos that listens.
#[derive(Debug)]
pub struct RunningMesos {
    /// Faults and introspection.
    pub mesos: Mesos,
    /// Where the master listens.
    pub master_addr: SocketAddr,
    /// Where the masters listen that do not lead, at first.
    pub followers: Vec<SocketAddr>,
    /// Where the agents listen, by name.
    pub agents: BTreeMap<String, SocketAddr>,
    tasks: JoinSet<()>,
}

impl RunningMesos {
    /// Returns when everything has ended, which it does once the token given at the start is cancelled. The
    /// state is saved then; executors are the launcher's, and still run.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = %error, "a part of Mesos ended badly");
            }
        }
    }
}

impl Mesos {
    /// Starts a master and its agents on their addresses. Cancelling `shutdown` ends them.
    pub async fn start_http(
        mut config: MesosConfig,
        launcher: Arc<dyn Launcher>,
        shutdown: CancellationToken,
    ) -> Result<RunningMesos, StartError> {
        let (master, address) = listen(config.master, "the master").await?;
        config.master = address;
        let mut masters = vec![(master, address)];
        for follower in &mut config.followers {
            let (listener, address) = listen(*follower, "a following master").await?;
            *follower = address;
            masters.push((listener, address));
        }
        let mut listeners = BTreeMap::new();
        for agent in &mut config.agents {
            let wanted = SocketAddr::new(agent.ip, agent.port);
            let (listener, address) = listen(wanted, &format!("agent '{}'", agent.name)).await?;
            agent.port = address.port();
            agent.work_dir = std::path::absolute(&agent.work_dir)
                .map_err(|source| StartError::WorkDir { path: agent.work_dir.clone(), source })?;
            if listeners.insert(agent.name.clone(), (listener, address)).is_some() {
                return Err(StartError::DuplicateAgent(agent.name.clone()));
            }
        }
        let (saved, journal) = match config.state_dir.as_deref() {
            Some(dir) => state_file::read(dir)?,
            None => (None, 0),
        };
        let epoch = config.epoch.unwrap_or_else(wall_clock);
        let (mesos, effects) = Self::new(&config, epoch, saved);
        if let Some(dir) = &config.state_dir {
            mesos.keep(Journal::begin(dir, journal, mesos.saved())?);
        }
        let mut tasks = JoinSet::new();
        let agents = listeners.iter().map(|(name, (_, address))| (name.clone(), *address)).collect();
        let credentials: Arc<[Credentials]> = config.credentials.clone().into();
        for (index, (listener, address)) in masters.into_iter().enumerate() {
            let Some(endpoint) = mesos.master_endpoint(index) else { continue };
            let gate = Gate::new(listener, address, endpoint, shutdown.clone());
            serve(&mut tasks, gate, router_of_master(&mesos, index, &credentials), &shutdown);
        }
        for (name, (listener, address)) in listeners {
            let Some(endpoint) = mesos.endpoint(&name) else { continue };
            let gate = Gate::new(listener, address, endpoint, shutdown.clone());
            serve(&mut tasks, gate, router_of_agent(&mesos, &name), &shutdown);
        }
        let driver = Driver { mesos: mesos.clone(), launcher, effects, shutdown };
        tasks.spawn(driver.run());
        let followers = config.followers;
        Ok(RunningMesos { mesos, master_addr: address, followers, agents, tasks })
    }
}

async fn listen(address: SocketAddr, whom: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, whom: whom.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn serve(tasks: &mut JoinSet<()>, gate: Gate, router: Router, shutdown: &CancellationToken) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            _never = axum::serve(gate, router).into_future() => {}
        }
    });
}

fn router_of_master(mesos: &Mesos, index: usize, credentials: &Arc<[Credentials]>) -> Router {
    let (mesos, credentials) = (mesos.clone(), Arc::clone(credentials));
    Router::new().fallback(move |request: axum::extract::Request| {
        let (mesos, credentials) = (mesos.clone(), Arc::clone(&credentials));
        async move {
            mesos.hesitate().await;
            master_answer(&mesos, index, &credentials, request).await
        }
    })
}

async fn master_answer(
    mesos: &Mesos,
    index: usize,
    credentials: &[Credentials],
    request: axum::extract::Request,
) -> Response {
    let path = path(request.uri().path(), "/master");
    let query = operator::Query::parse(request.uri().query().unwrap_or_default());
    if let Some(answer) = operator::local(mesos, &path, &query) {
        return answer;
    }
    let principal = if path == "/api/v1/scheduler" {
        match auth::principal(credentials, request.headers()) {
            Ok(principal) => principal,
            Err(refusal) => return *refusal,
        }
    } else {
        None
    };
    match mesos.standing(index) {
        Standing::Leads if path == "/redirect" => return redirect(&format!("//{}", mesos.leader())),
        Standing::Leads => {}
        Standing::Recovers => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "Master has not finished recovery".to_owned());
        }
        Standing::Leaderless => return text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected".to_owned()),
        Standing::Follows(leader) if path == "/redirect" => return redirect(&format!("//{leader}")),
        Standing::Follows(leader) => {
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            return redirect(&format!("//{leader}/master{path}{query}"));
        }
    }
    match path.as_str() {
        "/api/v1/scheduler" => scheduler::answer(mesos, principal, request).await,
        "/api/v1" => operator::master_call(mesos, request).await,
        other => operator::answer(mesos, other, &query, request).await,
    }
}

fn router_of_agent(mesos: &Mesos, name: &str) -> Router {
    let (mesos, name) = (mesos.clone(), name.to_owned());
    Router::new().fallback(move |request: axum::extract::Request| {
        let (mesos, name) = (mesos.clone(), name.clone());
        async move {
            let query = operator::Query::parse(request.uri().query().unwrap_or_default());
            match path(request.uri().path(), "/slave(1)").as_str() {
                "/api/v1/executor" => executor::answer(&mesos, &name, request).await,
                other => operator::agent_answer(&mesos, &name, other, &query, request).await,
            }
        }
    })
}

/// Where the leader is, without a scheme, as Mesos says it.
fn redirect(location: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = header::HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The path without the name of the process that libprocess allows in front, and without a slash at the end.
fn path(path: &str, process: &str) -> String {
    let path = path.strip_prefix(process).unwrap_or(path);
    path.trim_end_matches('/').to_owned()
}

fn text(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn json(value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 Not Found.".to_owned())
}

/// 405: only this method is served.
fn only(expected: &'static str, method: &Method) -> Response {
    let body =
        format!("405 Method Not Allowed. Expecting one of {{ '{expected}' }}, but received '{method}'.");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, body);
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(expected));
    response
}

fn answer_of(answer: Answer) -> Response {
    match answer {
        Answer::Refused { status, text: body } => {
            text(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
        }
        Answer::Accepted | Answer::Subscribed { .. } => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        Answer::Done(serde_json::Value::Null) => Response::new(Body::empty()),
        Answer::Done(body) => json(&body),
        // The process is gone, and the connection with it; this is what is left of the answer.
        Answer::Unavailable => text(StatusCode::SERVICE_UNAVAILABLE, "it is down".to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "where the model's wall clock starts; it goes on by itself")]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
