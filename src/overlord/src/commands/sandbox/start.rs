//! Starting and ending a sandbox: supervisor, etcd, Mesos, controller; and back in the other order.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use overlord_controllers::{Binary, Catalogue, Executor, Program};
use overlord_mesos::{HttpConfig, HttpScheduler};
use overlord_sandbox::{
    AgentConfig, Etcd, EtcdConfig, Mesos, MesosConfig, Processes, RunningMesos, supervisor,
};
use overlord_store::EtcdStore;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    DEFAULT_ADMIN, StartArgs, admin,
    binaries::{self, Found},
    hands::{self, Gone, Hands},
    layout::Layout,
    text,
};
use crate::{
    cli,
    client::Client,
    client_settings::ServerArgs,
    commands::apply,
    failure::{Failure, chain},
    manifests::{self, ManifestFile},
    output, service,
    settings::args::LogArgs,
};

/// Racks that agents are dealt to.
const RACKS: usize = 3;
/// Data ports of each agent: below the ephemeral range, and room for bus ports 10000 above.
const PORTS: (u16, u16) = (20_000, 22_767);
/// What each agent offers. Made up: it is shared by all that runs here.
const CPUS: f64 = 4.0;
const MEMORY_MIB: f64 = 2048.0;
const DISK_MIB: f64 = 16_384.0;
/// A killed sandbox that starts again in the same folder waits this long at most for its old leadership to end.
const LEASE: Duration = Duration::from_secs(10);
/// What cache servers get to save their data in the end.
const GRACE: Duration = Duration::from_secs(10);
/// How long `--wait-ready` waits.
const WAIT: Duration = Duration::from_mins(5);

/// What runs, and where it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) root: PathBuf,
    pub(crate) temporary: bool,
    pub(crate) etcd: SocketAddr,
    pub(crate) master: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// `None` with `--no-controller`.
    pub(crate) api: Option<SocketAddr>,
    pub(crate) settings_file: PathBuf,
    /// The folder of this program, unless a shell finds it by itself.
    pub(crate) program: Option<PathBuf>,
    pub(crate) network: Ipv4Addr,
    pub(crate) agents: u8,
    pub(crate) engines: Vec<Found>,
}

/// The address of agent `n`, counted from 1.
pub(crate) fn agent_ip(network: Ipv4Addr, n: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, n)
}

pub(crate) fn run(args: StartArgs, log: &LogArgs) -> Result<(), Failure> {
    // People look at this one: only what is odd, unless asked for more.
    cli::start_log(log, "warn")?;
    let manifests = manifests::read(&args.apply)?;
    let layout = Layout::take(args.dir.as_deref())?;
    let exe = std::env::current_exe().map_err(|error| Failure::io("the path of this program", &error))?;
    let supervisor =
        supervisor::spawn(&exe, &["supervise"]).map_err(|error| Failure::io("the supervisor", &error))?;
    let supervisor = Arc::new(supervisor);
    let runtime = cli::multi_thread()?;
    let outcome = runtime.block_on(async {
        let outcome = live(&args, &layout, exe, manifests, &supervisor).await;
        if let Err(error) = supervisor.close().await {
            tracing::error!(%error, "the supervisor did not end");
        }
        outcome
    });
    drop(runtime);
    outcome.and(layout.close())
}

/// From the first process to the last one's end.
async fn live(
    args: &StartArgs,
    layout: &Layout,
    exe: PathBuf,
    manifests: Vec<ManifestFile>,
    supervisor: &Arc<supervisor::SupervisorPipe>,
) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let mut signals = JoinSet::new();
    service::on_signals(&mut signals, shutdown.clone())?;
    let engines = binaries::find().await?;
    let api = if args.no_controller { None } else { Some(listen_api(args.api).await?) };
    let admin = listen_admin(args.admin).await?;

    let etcd_config = EtcdConfig {
        client_port: chosen_port(args.etcd_port, 2379).await,
        ..EtcdConfig::new(layout.etcd()?)
    };
    let etcd = Etcd::start(&etcd_config, Some(Arc::clone(supervisor))).await.map_err(|error| {
        Failure::failed(chain(&error), "choose another port with --etcd-port, or 0 for a free one")
    })?;
    let etcd_address = etcd.address();
    let mut etcd = Some(etcd);
    let processes = Arc::new(Processes::new(Some(Arc::clone(supervisor))));
    let mesos_shutdown = CancellationToken::new();
    let outcome = async {
        let running = start_mesos(args, layout, &engines, &processes, supervisor, &mesos_shutdown).await?;
        let addresses = Addresses {
            root: layout.root().to_path_buf(),
            temporary: args.dir.is_none(),
            etcd: etcd_address,
            master: running.master_addr,
            admin: local(&admin)?,
            api: api.as_ref().map(local).transpose()?,
            settings_file: layout.settings_file(),
            program: text::folder_to_add(&exe, std::env::var_os("PATH").as_deref()),
            network: args.network,
            agents: args.agents,
            engines,
        };
        let file = text::settings(&addresses, &exe, &layout.state_file());
        std::fs::write(&addresses.settings_file, file)
            .map_err(|error| Failure::io(addresses.settings_file.display(), &error))?;
        let file = layout.addresses_file();
        std::fs::write(&file, text::addresses(&addresses)).map_err(|error| Failure::io(file.display(), &error))?;

        let (hands, orders) = Hands::new(running.mesos.clone());
        let parts = Parts { addresses, api, admin, exe, manifests, wait_ready: args.wait_ready, deliver: args.deliver };
        let outcome = tokio::select! {
            biased;
            outcome = parts.run(layout, hands, &shutdown) => outcome,
            gone = hands::keep(&mut etcd, &etcd_config, supervisor, orders) => Err(Failure::failed(
                match gone {
                    Gone::Ended(status) => format!("etcd ended by itself ({})", status.map_or_else(|e| e.to_string(), |s| s.to_string())),
                    Gone::NotBack(error) => format!("etcd does not start again: {}", chain(&error)),
                },
                format!("its log is {}", etcd_config.dir.join("etcd.log").display()),
            )),
        };
        mesos_shutdown.cancel();
        running.stopped().await;
        outcome
    }
    .await;
    mesos_shutdown.cancel();
    processes.shutdown(GRACE).await;
    if let Some(etcd) = etcd {
        etcd.stop().await;
    }
    outcome
}

/// What runs on top of etcd and Mesos.
struct Parts {
    addresses: Addresses,
    api: Option<TcpListener>,
    admin: TcpListener,
    exe: PathBuf,
    manifests: Vec<ManifestFile>,
    wait_ready: bool,
    deliver: bool,
}

impl Parts {
    async fn run(self, layout: &Layout, hands: Hands, shutdown: &CancellationToken) -> Result<(), Failure> {
        let Self { addresses, api, admin, exe, manifests, wait_ready, deliver } = self;
        let mut parts: JoinSet<Result<(), Failure>> = JoinSet::new();
        parts.spawn(admin::serve(admin, hands, shutdown.clone()));
        if let (Some(listener), Some(api)) = (api, addresses.api) {
            let delivered = if deliver { Some(service::own_binary().await?) } else { None };
            let program = match &delivered {
                Some(binary) => service::delivered(&format!("http://{api}"), Some(binary))?,
                None => Program::Installed(exe.display().to_string()),
            };
            let settings = controller_settings(&addresses, api, program, layout);
            let store = EtcdStore::new(overlord_store::EtcdConfig {
                endpoints: vec![format!("http://{}", addresses.etcd)],
                ..overlord_store::EtcdConfig::default()
            })
            .map_err(|error| Failure::failed(chain(&error), ""))?;
            let transport = HttpScheduler::new([addresses.master.to_string()], HttpConfig::default())
                .map_err(|error| Failure::failed(chain(&error), ""))?;
            parts.spawn(service::run(
                settings,
                Arc::new(store),
                Arc::new(transport),
                listener,
                delivered,
                shutdown.clone(),
            ));
        }
        output::print(&text::greeting(&addresses))?;
        if let Some(api) = addresses.api
            && !manifests.is_empty()
        {
            let token = shutdown.clone();
            let addresses = addresses.clone();
            parts.spawn(async move {
                tokio::select! {
                    biased;
                    () = token.cancelled() => Ok(()),
                    applied = apply_all(api, &manifests, wait_ready, &addresses) => {
                        // Without --wait-ready a refused manifest is told, and the sandbox stays for the next try.
                        if wait_ready { applied? } else if let Err(failure) = applied { failure.report(); }
                        token.cancelled().await;
                        Ok(())
                    }
                }
            });
        }
        let mut outcome = Ok(());
        while let Some(ended) = parts.join_next().await {
            // A part that ends ends all; a part that fails says why.
            shutdown.cancel();
            let ended = ended.unwrap_or_else(|error| {
                Err(Failure::failed(format!("a part of the sandbox died: {error}"), ""))
            });
            outcome = outcome.and(ended);
        }
        outcome
    }
}

async fn apply_all(
    api: SocketAddr,
    manifests: &[ManifestFile],
    wait_ready: bool,
    addresses: &Addresses,
) -> Result<(), Failure> {
    let server = ServerArgs { server: Some(format!("http://{api}")), context: None };
    let client = Client::new(&server)?;
    let mut written = Vec::new();
    let mut failed = None;
    for file in manifests {
        failed = apply::apply_file(&client, file, &mut written).await?.or(failed);
    }
    if let Some(exit) = failed {
        return Err(Failure::new(exit, "not every manifest was applied", ""));
    }
    if wait_ready {
        let wanted: Vec<_> = written
            .iter()
            .map(|view| apply::Wanted { name: view.name.clone(), revision: view.config_revision })
            .collect();
        apply::wait(&client, wanted, WAIT, &mut apply::Display::for_this_terminal()).await?;
        output::print(&text::ready(&client, &written, addresses).await?)?;
    }
    Ok(())
}

async fn start_mesos(
    args: &StartArgs,
    layout: &Layout,
    engines: &[Found],
    processes: &Arc<Processes>,
    supervisor: &supervisor::SupervisorPipe,
    shutdown: &CancellationToken,
) -> Result<RunningMesos, Failure> {
    let mut agents = Vec::new();
    for n in 1..=args.agents {
        let name = format!("agent-{n}");
        let (work_dir, data) = (layout.agent_work(&name)?, layout.agent_data(&name)?);
        for found in engines {
            binaries::install(found, &data)?;
        }
        supervisor.add_root(&work_dir);
        let rack = format!("r{}", usize::from(n - 1) % RACKS + 1);
        agents.push(AgentConfig {
            name,
            ip: IpAddr::V4(agent_ip(args.network, n)),
            port: 0,
            cpus: CPUS,
            mem_mib: MEMORY_MIB,
            disk_mib: DISK_MIB,
            ports: vec![PORTS],
            attributes: vec![
                ("rack".to_owned(), rack),
                (overlord_controllers::ATTRIBUTE_DATA.to_owned(), data.display().to_string()),
            ],
            work_dir,
            hostname: None,
            domain: None,
            reserved: Vec::new(),
        });
    }
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let config = MesosConfig {
        master: SocketAddr::from(([127, 0, 0, 1], chosen_port(args.master_port, 5050).await)),
        // Mesos' own 75 s would try a spectator's patience.
        ping_timeout: Duration::from_secs(args.agent_timeout),
        state_dir: Some(layout.mesos()?),
        ..MesosConfig::new(agents, seed)
    };
    Mesos::start_http(config, Arc::clone(processes) as Arc<dyn overlord_sandbox::Launcher>, shutdown.clone())
        .await
        .map_err(|error| {
            Failure::failed(chain(&error), "choose another port with --master-port, or 0 for a free one")
        })
}

fn controller_settings(
    addresses: &Addresses,
    api: SocketAddr,
    program: Program,
    layout: &Layout,
) -> overlord_controllers::Settings {
    let executor = Executor {
        program,
        etcd: vec![format!("http://{}", addresses.etcd)],
        etcd_credentials: None,
        environment: BTreeMap::new(),
    };
    let mut catalogue = Catalogue::default();
    for found in &addresses.engines {
        catalogue
            .engines
            .entry(found.engine)
            .or_default()
            .insert(found.version.clone(), Binary::Preinstalled);
    }
    overlord_controllers::Settings {
        api: format!("http://{api}"),
        lease: LEASE,
        state_file: Some(layout.state_file()),
        ..overlord_controllers::Settings::new(service::identity(), executor, catalogue)
    }
}

async fn listen_api(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(
            format!("the API cannot listen on {address}: {error}"),
            "another sandbox or controller may run here; choose another address with --api",
        )
    })
}

async fn listen_admin(wanted: Option<SocketAddr>) -> Result<TcpListener, Failure> {
    let failed = |error| Failure::io("the sandbox's admin address", &error);
    match wanted {
        Some(address) => TcpListener::bind(address).await.map_err(failed),
        None => match TcpListener::bind(DEFAULT_ADMIN).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed),
        },
    }
}

/// A named port, or the usual one when it is free, or 0.
async fn chosen_port(wanted: Option<u16>, usual: u16) -> u16 {
    match wanted {
        Some(port) => port,
        None if TcpListener::bind((Ipv4Addr::LOCALHOST, usual)).await.is_ok() => usual,
        None => 0,
    }
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::io("a listener", &error))
}
