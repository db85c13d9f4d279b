//! The flags and variables of a controller. Each names the setting in the file that it stands for.

use std::path::PathBuf;

use clap::Args;

use crate::logging::LogFormat;

/// Flags of every command that can log.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LogArgs {
    /// What to log on standard error: error, warn, info, debug, trace, or a filter such as `info,overlord_mesos=debug`
    /// [file: log.level; default: info for controller, executor and sandbox, error otherwise]
    #[arg(long, global = true, value_name = "LEVEL", env = "OVERLORD_LOG_LEVEL", help_heading = "Logging")]
    pub(crate) log_level: Option<String>,

    /// How log lines look [file: log.format; default: text]
    #[arg(long, global = true, value_name = "FORMAT", env = "OVERLORD_LOG_FORMAT", help_heading = "Logging")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Flags of the commands that speak to etcd themselves; the settings file of the controllers says the rest.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EtcdArgs {
    /// Settings file of the controllers [default: /etc/overlord/overlord.toml, when it exists]
    #[arg(long, value_name = "FILE", env = "OVERLORD_CONFIG")]
    config: Option<PathBuf>,

    /// etcd's client addresses, separated by commas [file: etcd.endpoints; default: 127.0.0.1:2379]
    #[arg(long, value_name = "URL", env = "OVERLORD_ETCD", value_delimiter = ',', help_heading = "etcd")]
    etcd: Option<Vec<String>>,

    /// etcd user [file: etcd.user; default: none]
    #[arg(long, value_name = "NAME", env = "OVERLORD_ETCD_USER", help_heading = "etcd")]
    etcd_user: Option<String>,

    /// File that holds the etcd user's password [file: `etcd.password_file`; default: none]
    #[arg(long, value_name = "FILE", env = "OVERLORD_ETCD_PASSWORD_FILE", help_heading = "etcd")]
    etcd_password_file: Option<String>,
}

impl From<EtcdArgs> for ControllerArgs {
    fn from(args: EtcdArgs) -> Self {
        let EtcdArgs { config, etcd, etcd_user, etcd_password_file } = args;
        Self { config, etcd, etcd_user, etcd_password_file, ..Self::default() }
    }
}

/// Flags of `overlord controller` and `overlord config show`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ControllerArgs {
    /// Settings file [default: /etc/overlord/overlord.toml, when it exists]
    #[arg(long, value_name = "FILE", env = "OVERLORD_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// etcd's client addresses, separated by commas [file: etcd.endpoints; default: 127.0.0.1:2379]
    #[arg(long, value_name = "URL", env = "OVERLORD_ETCD", value_delimiter = ',', help_heading = "etcd")]
    pub(crate) etcd: Option<Vec<String>>,

    /// etcd user [file: etcd.user; default: none]
    #[arg(long, value_name = "NAME", env = "OVERLORD_ETCD_USER", help_heading = "etcd")]
    pub(crate) etcd_user: Option<String>,

    /// File that holds the etcd user's password [file: `etcd.password_file`; default: none]
    #[arg(long, value_name = "FILE", env = "OVERLORD_ETCD_PASSWORD_FILE", help_heading = "etcd")]
    pub(crate) etcd_password_file: Option<String>,

    /// Mesos masters, separated by commas, or where ZooKeeper knows them: zk://host1:2181,host2:2181/mesos; with TLS
    /// https://host:port [file: mesos.masters; default: 127.0.0.1:5050]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "OVERLORD_MESOS",
        value_delimiter = ',',
        help_heading = "Mesos"
    )]
    pub(crate) mesos: Option<Vec<String>>,

    /// Mesos roles to subscribe with, separated by commas [file: mesos.roles; default: *]
    #[arg(
        long,
        value_name = "ROLE",
        env = "OVERLORD_MESOS_ROLES",
        value_delimiter = ',',
        help_heading = "Mesos"
    )]
    pub(crate) mesos_roles: Option<Vec<String>>,

    /// Name under which Mesos shows this framework [file: mesos.framework; default: overlord]
    #[arg(long, value_name = "NAME", env = "OVERLORD_FRAMEWORK", help_heading = "Mesos")]
    pub(crate) framework: Option<String>,

    /// User on the agents that executors run as [file: mesos.user; default: root]
    #[arg(long, value_name = "USER", env = "OVERLORD_MESOS_USER", help_heading = "Mesos")]
    pub(crate) mesos_user: Option<String>,

    /// How long Mesos keeps everything running while no controller is connected [file: `mesos.failover_timeout`;
    /// default: 21d]
    #[arg(long, value_name = "TIME", env = "OVERLORD_FAILOVER_TIMEOUT", help_heading = "Mesos")]
    pub(crate) failover_timeout: Option<String>,

    /// Who this framework is, when Mesos authenticates frameworks [file: mesos.principal; default: none]
    #[arg(long, value_name = "NAME", env = "OVERLORD_MESOS_PRINCIPAL", help_heading = "Mesos")]
    pub(crate) mesos_principal: Option<String>,

    /// File that holds the principal's secret [file: `mesos.secret_file`; default: none]
    #[arg(long, value_name = "FILE", env = "OVERLORD_MESOS_SECRET_FILE", help_heading = "Mesos")]
    pub(crate) mesos_secret_file: Option<String>,

    /// Certificates that sign those of the masters, PEM; with it masters are spoken to by TLS
    /// [file: `mesos.ca_file`; default: none, and those of this machine for https:// masters]
    #[arg(long, value_name = "FILE", env = "OVERLORD_MESOS_CA_FILE", help_heading = "Mesos")]
    pub(crate) mesos_ca_file: Option<String>,

    /// This framework's certificate, PEM, for masters that ask for one [file: `mesos.cert_file`; default: none]
    #[arg(long, value_name = "FILE", env = "OVERLORD_MESOS_CERT_FILE", help_heading = "Mesos")]
    pub(crate) mesos_cert_file: Option<String>,

    /// The certificate's key, PEM [file: `mesos.key_file`; default: none]
    #[arg(long, value_name = "FILE", env = "OVERLORD_MESOS_KEY_FILE", help_heading = "Mesos")]
    pub(crate) mesos_key_file: Option<String>,

    /// Where the API listens; it has no authentication, so beyond loopback only on a private network
    /// [file: api.listen; default: 127.0.0.1:8880]
    #[arg(long, value_name = "IP:PORT", env = "OVERLORD_LISTEN", help_heading = "API")]
    pub(crate) listen: Option<String>,

    /// Where others reach the API: agents that fetch the binary, and other controllers
    /// [file: api.advertise; default: where it listens]
    #[arg(long, value_name = "HOST:PORT", env = "OVERLORD_ADVERTISE", help_heading = "API")]
    pub(crate) advertise: Option<String>,

    /// Path of this binary on the agents [file: executor.path; default: /usr/local/bin/overlord]
    #[arg(long, value_name = "PATH", env = "OVERLORD_EXECUTOR_PATH", help_heading = "Executor")]
    pub(crate) executor_path: Option<String>,

    /// Let the agents fetch this very binary from the API, with Mesos' fetcher [file: executor.deliver; default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "OVERLORD_EXECUTOR_DELIVER",
        num_args = 0..=1,
        default_missing_value = "true",
        help_heading = "Executor"
    )]
    pub(crate) executor_deliver: Option<bool>,

    /// Let the agents fetch the binary from here, with Mesos' fetcher [file: executor.url; default: none]
    #[arg(long, value_name = "URL", env = "OVERLORD_EXECUTOR_URL", help_heading = "Executor")]
    pub(crate) executor_url: Option<String>,

    /// Digest of what is at --executor-url; anything else is not executed [file: executor.sha256; default: none]
    #[arg(long, value_name = "HEX", env = "OVERLORD_EXECUTOR_SHA256", help_heading = "Executor")]
    pub(crate) executor_sha256: Option<String>,

    /// etcd's client addresses as the agents reach them [file: executor.etcd; default: those of the controller]
    #[arg(
        long,
        value_name = "URL",
        env = "OVERLORD_EXECUTOR_ETCD",
        value_delimiter = ',',
        help_heading = "Executor"
    )]
    pub(crate) executor_etcd: Option<Vec<String>>,

    /// File on the agents with `user:password` for etcd [file: `executor.etcd_credentials`; default: none]
    #[arg(long, value_name = "PATH", env = "OVERLORD_EXECUTOR_ETCD_CREDENTIALS", help_heading = "Executor")]
    pub(crate) executor_etcd_credentials: Option<String>,

    /// Where the highest etcd revision ever seen is kept, so that an etcd restored from an old backup is noticed;
    /// empty: not kept [file: `controller.state_file`; default: /var/lib/overlord/state]
    #[arg(long, value_name = "FILE", env = "OVERLORD_STATE_FILE", help_heading = "Controller")]
    pub(crate) state_file: Option<String>,

    /// A dead leader is replaced after this long [file: controller.lease; default: 10s]
    #[arg(long, value_name = "TIME", env = "OVERLORD_LEASE", help_heading = "Controller")]
    pub(crate) lease: Option<String>,

    /// How long an address is not used again after its instance is gone [file: controller.quarantine; default: 2m]
    #[arg(long, value_name = "TIME", env = "OVERLORD_QUARANTINE", help_heading = "Controller")]
    pub(crate) quarantine: Option<String>,

    /// Where the bus of a redis cluster older than 7.0 is, data port + 10000: `offered` needs that port in the
    /// agent's offer too, `unreserved` takes it all the same [file: `controller.bus_port`; default: offered]
    #[arg(long, value_name = "WHICH", env = "OVERLORD_BUS_PORT", help_heading = "Controller")]
    pub(crate) bus_port: Option<String>,

    /// How often every cluster is looked at although nothing changed [file: controller.resync; default: 5m]
    #[arg(long, value_name = "TIME", env = "OVERLORD_RESYNC", help_heading = "Controller")]
    pub(crate) resync: Option<String>,

    /// With more clusters than this whose specs vanish at once, none of them is deleted
    /// [file: `controller.deletion_ceiling`; default: 5]
    #[arg(long, value_name = "N", env = "OVERLORD_DELETION_CEILING", help_heading = "Controller")]
    pub(crate) deletion_ceiling: Option<usize>,

    /// How many clusters are worked on at once [file: controller.concurrency; default: 32]
    #[arg(long, value_name = "N", env = "OVERLORD_CONCURRENCY", help_heading = "Controller")]
    pub(crate) concurrency: Option<usize>,
}
