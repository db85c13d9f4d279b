//! `overlord executor`: started by a Mesos agent, keeps one instance. Small on purpose: one thread.

use std::{path::PathBuf, sync::Arc};

use overlord_executor::{Config, EtcdInstances, Install, Limits, LinuxMachine};
use overlord_mesos::{
    ExecutorEnv, HttpConfig, HttpExecutor,
    http::{BearerToken, TlsConfig, TlsIdentity},
};
use overlord_store::EtcdConfig;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    failure::{Failure, chain},
    settings::args::LogArgs,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// etcd's client addresses, separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    etcd: Vec<String>,

    /// File with `user:password` for etcd
    #[arg(long, value_name = "FILE")]
    etcd_credentials: Option<PathBuf>,

    /// Where instances keep their files on this agent
    #[arg(long, value_name = "DIR", default_value = "/data")]
    data_root: PathBuf,

    /// Where the engine's binary comes from when it is not there
    #[arg(long, value_name = "URL", requires = "install_sha256")]
    install_url: Option<String>,

    /// Digest of the engine's binary
    #[arg(long, value_name = "HEX", requires = "install_url")]
    install_sha256: Option<String>,
}

pub(crate) fn run(args: Args, log: &LogArgs) -> Result<(), Failure> {
    cli::start_log(log, "info")?;
    let env = ExecutorEnv::from_env(std::env::vars()).map_err(|error| {
        Failure::usage(
            chain(&error),
            "this command is started by Mesos agents, which set the MESOS_* variables",
        )
    })?;
    let transport = HttpExecutor::new(&env.agent_endpoint, http_config(&env)).map_err(|error| {
        Failure::usage(chain(&error), "look at MESOS_AGENT_ENDPOINT and the LIBPROCESS_SSL_* variables")
    })?;
    let user = args.etcd_credentials.map(|file| read_credentials(&file)).transpose()?;
    let etcd = EtcdConfig { endpoints: args.etcd, user, ..EtcdConfig::default() };
    let install = args.install_url.zip(args.install_sha256).map(|(url, sha256)| Install { url, sha256 });
    let machine = LinuxMachine::new(args.data_root, install)
        .map_err(|error| Failure::failed(chain(&error), "look at the agent's attribute overlord_data"))?;
    // Update ids and jitter must differ between executors of one host that start in the same moment.
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let stop = CancellationToken::new();
    let config = Config { env, limits: Limits::default(), seed, stop: stop.clone() };
    cli::current_thread()?.block_on(async move {
        let mut signals = JoinSet::new();
        signals.spawn(told_to_end(stop)?);
        overlord_executor::run(
            config,
            Arc::new(transport),
            Arc::new(EtcdInstances::new(etcd)),
            Arc::new(machine),
        )
        .await
        .map_err(|error| Failure::failed(chain(&error), ""))
    })
}

/// How the agent is spoken to.
fn http_config(env: &ExecutorEnv) -> HttpConfig {
    let tls = env.tls.as_ref().map(|tls| TlsConfig {
        ca_files: tls.ca_file.clone().into_iter().collect(),
        identity: tls
            .identity
            .clone()
            .map(|(certificate_file, key_file)| TlsIdentity { certificate_file, key_file }),
        verify: tls.verify,
    });
    let bearer_token = env.authentication_token.as_ref().map(BearerToken::new);
    HttpConfig { tls, bearer_token, ..HttpConfig::default() }
}

/// SIGTERM and SIGINT, once or often, mean: stop the server as it wants to be stopped.
fn told_to_end(stop: CancellationToken) -> Result<impl Future<Output = ()>, Failure> {
    let install = |kind| signal(kind).map_err(|error| Failure::io("signals", &error));
    let mut terminate = install(SignalKind::terminate())?;
    let mut interrupt = install(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end");
        stop.cancel();
        // The handlers stay: a second signal must not end this process before the server has ended.
        std::future::pending::<()>().await;
    })
}

/// `user:password`, one line.
fn read_credentials(file: &std::path::Path) -> Result<(String, String), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::io(file.display(), &error))?;
    text.trim_end_matches(['\n', '\r'])
        .split_once(':')
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
        .ok_or_else(|| Failure::usage(format!("{} is not user:password", file.display()), ""))
}
