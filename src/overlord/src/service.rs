//! A controller and its API in this process: what `overlord controller` and `overlord sandbox` run.

use std::{collections::BTreeSet, sync::Arc};

use overlord_controllers::{Catalogue, Controllers, NetworkEngines, Program, Sha256};
use overlord_mesos::SchedulerTransport;
use overlord_reconcile::{Clock as _, SystemClock};
use overlord_server::{ApiConfig, ApiState};
use overlord_store::Store;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, chain};

/// Runs until `shutdown`, or until one half ends, which ends the other one too.
pub(crate) async fn run(
    settings: overlord_controllers::Settings,
    store: Arc<dyn Store>,
    transport: Arc<dyn SchedulerTransport>,
    listener: TcpListener,
    program: Option<Arc<overlord_server::Program>>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let clock = Arc::new(SystemClock::new());
    let loopback_only = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    if !loopback_only {
        tracing::warn!(api = settings.api, "the API has no authentication and listens beyond loopback");
    }
    let advertised = settings.api.split_once("://").map(|(_, host)| host.to_owned());
    let catalogue = served(&settings.catalogue);
    let rules = Arc::new(settings.catalogue.rules());
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let controllers = Controllers::new(
        settings,
        Arc::clone(&store),
        transport,
        Arc::new(NetworkEngines::default()),
        Arc::clone(&clock) as Arc<dyn overlord_reconcile::Clock>,
        seed,
    );
    let mut registry = Registry::default();
    controllers.register_metrics(&mut registry);
    let post = controllers.post();
    let state = ApiState::new(
        store,
        rules,
        Arc::new(move || clock.now()),
        catalogue,
        Arc::new(registry),
        shutdown.clone(),
    )
    .with_config(ApiConfig { loopback_only, advertised, ..ApiConfig::default() })
    .with_program(program)
    .with_standing(Arc::new(move || post.standing()));

    let mut halves: JoinSet<Result<(), Failure>> = JoinSet::new();
    let router = overlord_server::router(state);
    let token = shutdown.clone();
    halves.spawn(async move {
        overlord_server::serve(listener, router, token).await.map_err(|error| Failure::io("the API", &error))
    });
    let token = shutdown.clone();
    halves.spawn(async move {
        controllers
            .run(token)
            .await
            .map_err(|error| Failure::failed(chain(&error), "look at etcd and its credentials"))
    });
    let mut outcome = Ok(());
    while let Some(ended) = halves.join_next().await {
        shutdown.cancel();
        let ended = ended
            .unwrap_or_else(|error| Err(Failure::failed(format!("a part of the program died: {error}"), "")));
        outcome = outcome.and(ended);
    }
    outcome
}

/// This very program, for agents to fetch. It stays what it is when another one is put in its place.
pub(crate) async fn own_binary() -> Result<Arc<overlord_server::Program>, Failure> {
    // Under this name Linux finds it even after it was replaced.
    let path = std::path::Path::new("/proc/self/exe");
    let opened = tokio::task::spawn_blocking(|| overlord_server::Program::open(path)).await;
    let opened = opened.map_err(|error| Failure::failed(format!("reading this program: {error}"), ""))?;
    let program = opened.map_err(|error| Failure::io("this program", &error))?;
    tracing::info!(sha256 = program.sha256(), "agents fetch this binary");
    Ok(Arc::new(program))
}

/// How executors are launched with a binary that an API serves.
pub(crate) fn delivered(api: &str, binary: Option<&overlord_server::Program>) -> Result<Program, Failure> {
    let fetched = binary.and_then(|binary| {
        Some(Program::Fetched {
            url: format!("{api}{}", binary.path()),
            sha256: Sha256::parse(binary.sha256())?,
        })
    });
    fetched.ok_or_else(|| Failure::failed("this program could not be read", "start it again"))
}

/// Who a controller is, for people: host, process id, start time.
pub(crate) fn identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let started = SystemClock::new().now().strftime("%Y%m%dT%H%M%SZ");
    format!("{host}.{}.{started}", std::process::id())
}

fn served(catalogue: &Catalogue) -> overlord_server::Catalogue {
    let versions =
        |versions: &std::collections::BTreeMap<String, _>| versions.keys().cloned().collect::<BTreeSet<_>>();
    catalogue.engines.iter().map(|(engine, of)| (*engine, versions(of))).collect()
}

/// Ends with the first Ctrl-C or SIGTERM. The second one ends the process at once.
pub(crate) fn on_signals(tasks: &mut JoinSet<()>, shutdown: CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let install = |kind| signal(kind).map_err(|error| Failure::io("signals", &error));
    let mut interrupt = install(SignalKind::interrupt())?;
    let mut terminate = install(SignalKind::terminate())?;
    tasks.spawn(async move {
        let mut asked = 0;
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            asked += 1;
            if asked > 1 {
                std::process::exit(130);
            }
            tracing::info!("shutting down");
            shutdown.cancel();
        }
    });
    Ok(())
}
