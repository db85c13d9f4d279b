//! `overlord sandbox`: a whole system on this machine.

mod admin;
mod binaries;
mod fault;
mod hands;
mod layout;
mod start;
mod text;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::{failure::Failure, settings::args::LogArgs};

/// Where the sandbox takes orders to break things.
pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:8881";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    start: StartArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// Where to keep everything; a temporary folder, removed in the end, unless given
    #[arg(long, value_name = "DIR", env = "OVERLORD_SANDBOX_DIR")]
    dir: Option<PathBuf>,

    /// Mesos agents, on the first addresses of --network, in three racks
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=100))]
    agents: u8,

    /// The /24 of loopback addresses that agents get: several sandboxes can run side by side
    #[arg(long, value_name = "IP", default_value = "127.0.0.0", env = "OVERLORD_SANDBOX_NETWORK", value_parser = network)]
    network: Ipv4Addr,

    /// How long a lost agent is waited for before Mesos calls its tasks unreachable, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    agent_timeout: u64,

    /// Where the API listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8880", env = "OVERLORD_LISTEN")]
    api: SocketAddr,

    /// Where `overlord sandbox fault` is heard
    /// [default: 127.0.0.1:8881, or a free port when that is taken]
    #[arg(long, value_name = "IP:PORT", env = "OVERLORD_SANDBOX_ADMIN")]
    admin: Option<SocketAddr>,

    /// etcd's client port; 0 takes a free one [default: 2379, or a free one when that is taken]
    #[arg(long, value_name = "PORT", env = "OVERLORD_SANDBOX_ETCD_PORT")]
    etcd_port: Option<u16>,

    /// The Mesos master's port; 0 takes a free one [default: 5050, or a free one when that is taken]
    #[arg(long, value_name = "PORT", env = "OVERLORD_SANDBOX_MASTER_PORT")]
    master_port: Option<u16>,

    /// Run etcd and Mesos alone, for a controller started by hand
    #[arg(long)]
    no_controller: bool,

    /// Let executors fetch this binary from the API, as agents on other machines do
    #[arg(long, conflicts_with = "no_controller")]
    deliver: bool,

    /// Apply this file or folder once everything runs
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "no_controller")]
    apply: Vec<PathBuf>,

    /// With --apply: say so when all clusters are Ready; end with an error when they do not become so
    #[arg(long, requires = "apply")]
    wait_ready: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Break something in the sandbox that runs
    Fault(FaultArgs),
    /// List the Mesos agents of the sandbox that runs, and how they are
    Agents(AgentsArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct FaultArgs {
    #[command(subcommand)]
    fault: fault::Fault,

    /// Where the sandbox listens
    #[arg(
        long,
        global = true,
        value_name = "IP:PORT",
        default_value = DEFAULT_ADMIN,
        env = "OVERLORD_SANDBOX_ADMIN"
    )]
    admin: SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AgentsArgs {
    /// As JSON
    #[arg(long)]
    json: bool,

    /// Where the sandbox listens
    #[arg(long, value_name = "IP:PORT", default_value = DEFAULT_ADMIN, env = "OVERLORD_SANDBOX_ADMIN")]
    admin: SocketAddr,
}

/// A /24 of the loopback range, by its first address.
fn network(text: &str) -> Result<Ipv4Addr, String> {
    let ip: Ipv4Addr = text.parse().map_err(|_| format!("{text:?} is no IPv4 address"))?;
    match ip.octets() {
        [127, _, _, 0] => Ok(ip),
        _ => Err(format!("{ip} is not 127.x.y.0")),
    }
}

pub(crate) fn run(args: Args, log: &LogArgs) -> Result<(), Failure> {
    match args.command {
        Some(Command::Fault(fault)) => admin::order(&fault, log),
        Some(Command::Agents(agents)) => admin::list(&agents, log),
        None => start::run(args.start, log),
    }
}
