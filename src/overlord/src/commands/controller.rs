//! `overlord controller`: settings become a running controller.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use clap::ArgMatches;
use overlord_controllers::{Binary, Catalogue, Executor, Framework, Program};
use overlord_mesos::{Credentials, HttpConfig, HttpScheduler, recordio::MASTER_MAX_RECORD};
use overlord_store::{EtcdConfig, EtcdStore};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    failure::{Failure, chain},
    logging, service,
    settings::{
        Settings,
        args::{ControllerArgs, LogArgs},
        executor::Delivery,
        without_secrets,
    },
};

pub(crate) fn run(args: ControllerArgs, log: LogArgs, matches: &ArgMatches) -> Result<(), Failure> {
    let settings = Settings::resolve(args, log, matches)?;
    logging::start(&settings.log_level, settings.log_format)?;
    if settings.engines.is_empty() {
        tracing::warn!(
            "the engine catalogue is empty: add [engines.redis.\"<version>\"] to the settings file"
        );
    }
    cli::multi_thread()?.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let store = EtcdStore::new(etcd_config(&settings)?)
        .map_err(|error| Failure::usage(chain(&error), "look at etcd.endpoints"))?;
    let credentials = match (&settings.mesos.principal, &settings.mesos.secret_file) {
        (Some(principal), Some(file)) => {
            Some(Credentials { principal: principal.clone(), secret: read_secret(file)? })
        }
        _ => None,
    };
    let http = HttpConfig {
        credentials,
        tls: settings.mesos.tls.clone(),
        max_record: MASTER_MAX_RECORD,
        ..HttpConfig::default()
    };
    let transport = HttpScheduler::new(&settings.mesos.masters, http)
        .map_err(|error| Failure::usage(chain(&error), "look at mesos.masters, and at its certificates"))?;
    let delivered = match &settings.executor.binary {
        Delivery::Delivered => Some(service::own_binary().await?),
        Delivery::Installed(_) | Delivery::Mirror { .. } => None,
    };
    let listener = TcpListener::bind(settings.api.listen).await.map_err(|error| {
        Failure::failed(
            format!("the API cannot listen on {}: {error}", settings.api.listen),
            "another controller may run here; choose another address with --listen",
        )
    })?;
    let api = listener.local_addr().map_err(|error| Failure::io("the API", &error))?;
    if let Some(folder) = settings.controller.state_file.as_deref().and_then(Path::parent)
        && let Err(error) = std::fs::create_dir_all(folder)
    {
        tracing::warn!(folder = %folder.display(), %error, "no folder for the state file: a restored etcd is not noticed");
    }
    let shutdown = CancellationToken::new();
    let mut signals = JoinSet::new();
    service::on_signals(&mut signals, shutdown.clone())?;
    tracing::info!(%api, etcd = settings.etcd.endpoints.join(","), mesos = without_secrets(&settings.mesos.masters.join(",")), "controller starts");
    // Nobody may be listening: then it is no service of systemd.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let advertise = settings.api.advertise.clone().unwrap_or_else(|| format!("http://{api}"));
    let program = match (&settings.executor.binary, &delivered) {
        (Delivery::Installed(path), _) => Program::Installed(path.clone()),
        (Delivery::Mirror { url, sha256 }, _) => {
            Program::Fetched { url: url.clone(), sha256: sha256.clone() }
        }
        (Delivery::Delivered, binary) => service::delivered(&advertise, binary.as_deref())?,
    };
    let settings = controllers_settings(&settings, advertise, program);
    let ended =
        service::run(settings, Arc::new(store), Arc::new(transport), listener, delivered, shutdown).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    ended
}

pub(crate) fn etcd_config(settings: &Settings) -> Result<EtcdConfig, Failure> {
    let user = match (&settings.etcd.user, &settings.etcd.password_file) {
        (Some(user), Some(file)) => Some((user.clone(), read_secret(file)?)),
        _ => None,
    };
    Ok(EtcdConfig { endpoints: settings.etcd.endpoints.clone(), user, ..EtcdConfig::default() })
}

fn controllers_settings(
    settings: &Settings,
    api: String,
    program: Program,
) -> overlord_controllers::Settings {
    let executor = Executor {
        program,
        etcd: settings.executor.etcd.clone(),
        etcd_credentials: settings.executor.etcd_credentials.clone(),
        environment: BTreeMap::new(),
    };
    let mesos = &settings.mesos;
    let framework = Framework {
        name: mesos.framework.clone(),
        user: mesos.user.clone(),
        roles: mesos.roles.clone(),
        failover_timeout: mesos.failover_timeout,
        principal: mesos.principal.clone(),
    };
    let controller = &settings.controller;
    overlord_controllers::Settings {
        api,
        framework,
        lease: controller.lease,
        state_file: controller.state_file.clone(),
        deletion_ceiling: controller.deletion_ceiling,
        quarantine: controller.quarantine,
        unreserved_bus_port: controller.unreserved_bus_port,
        concurrency: controller.concurrency,
        resync: controller.resync,
        ..overlord_controllers::Settings::new(service::identity(), executor, catalogue(settings))
    }
}

fn catalogue(settings: &Settings) -> Catalogue {
    let binary = |binary: &crate::settings::file::Binary| match (&binary.url, &binary.sha256) {
        (Some(url), Some(sha256)) => {
            Binary::Download { url: url.clone(), sha256: sha256.to_ascii_lowercase() }
        }
        _ => Binary::Preinstalled,
    };
    let engines = settings.engines.iter().map(|(engine, versions)| {
        (*engine, versions.iter().map(|(version, entry)| (version.clone(), binary(entry))).collect())
    });
    Catalogue { engines: engines.collect() }
}

/// The first line of a file.
fn read_secret(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::io(file.display(), &error))?;
    match text.lines().next() {
        Some(secret) if !secret.is_empty() => Ok(secret.to_owned()),
        _ => Err(Failure::usage(
            format!("{} is empty", file.display()),
            "write the secret into its first line",
        )),
    }
}
