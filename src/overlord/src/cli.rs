//! The command line: what there is, and which runtime each command gets.

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    commands::{
        apply, backup, completion, config, controller, delete, describe, endpoints, executor, get, restore,
        sandbox, store, supervise, task, validate, version,
    },
    failure::Failure,
    logging::{self, LogFormat},
    settings::args::{ControllerArgs, LogArgs},
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  refused or failed; the reason is on standard error
  2  the command line or a settings file is wrong
  3  waiting took longer than --timeout
  4  no controller answers

A flag wins over its variable, a variable over the settings file, and that over the default.
`overlord config show` prints what is in force and where it came from.";

/// Redis and memcached clusters on Apache Mesos, declared in YAML, kept by a controller.
#[derive(Debug, Parser)]
#[command(name = "overlord", version, max_term_width = 110, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Declare clusters: create them or change them
    Apply(apply::Args),
    /// List clusters, instances, tasks or controllers
    Get(get::Args),
    /// Tell all about one cluster
    Describe(describe::Args),
    /// Print who serves a cluster
    Endpoints(endpoints::Args),
    /// Delete a cluster
    Delete(delete::Args),
    /// Check manifests without a controller
    Validate(validate::Args),
    /// Pause, resume or abort a task; ask for one
    Task(task::Args),
    /// Copy everything that is kept in etcd into a file (asks etcd, not a controller)
    Backup(backup::Args),
    /// Bring back from a backup what etcd does not have any more (no controller may lead)
    Restore(restore::Args),
    /// Tell whether etcd is believed; accept one that was restored from an older backup
    Store(store::Args),
    /// Run a whole system on this machine: etcd, a model of Mesos, a controller
    Sandbox(Box<sandbox::Args>),
    /// Run a controller
    Controller(Box<ControllerArgs>),
    /// Show the settings in force
    Config(config::Args),
    /// Print the JSON Schema of manifests
    Schema,
    /// Print the version of this program, and of the controller when it answers
    Version(version::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Keep one cache instance (started by Mesos agents)
    #[command(hide = true)]
    Executor(executor::Args),
    /// End a sandbox's processes when it dies (started by the sandbox)
    #[command(hide = true)]
    Supervise,
}

/// Runs the command of this process.
pub(crate) fn run() -> ExitCode {
    // Usage errors and --help end the process here, with clap's own text.
    let matches = Cli::command().get_matches();
    let outcome = match Cli::from_arg_matches(&matches) {
        Ok(cli) => dispatch(cli, leaf(&matches)),
        Err(error) => error.exit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(cli: Cli, matches: &ArgMatches) -> Result<(), Failure> {
    let Cli { command, log } = cli;
    match command {
        Command::Controller(args) => controller::run(*args, log, matches),
        Command::Config(args) => config::run(args, log, matches),
        Command::Backup(args) => backup::run(args, log, matches),
        Command::Restore(args) => restore::run(args, log, matches),
        Command::Sandbox(args) => sandbox::run(*args, &log),
        Command::Executor(args) => executor::run(args, &log),
        Command::Supervise => supervise::run(),
        Command::Validate(args) => validate::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Schema => crate::output::print(&crate::output::json(&overlord_api::json_schema())?),
        Command::Apply(args) => client(&log, apply::run(args)),
        Command::Get(args) => client(&log, get::run(args)),
        Command::Describe(args) => client(&log, describe::run(args)),
        Command::Endpoints(args) => client(&log, endpoints::run(args)),
        Command::Delete(args) => client(&log, delete::run(args)),
        Command::Task(args) => client(&log, task::run(args)),
        Command::Store(args) => client(&log, store::run(args)),
        Command::Version(args) => client(&log, version::run(args)),
    }
}

/// Runs a command that asks a controller: one thread, and no log lines unless asked for.
fn client(log: &LogArgs, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    start_log(log, "error")?;
    current_thread()?.block_on(work)
}

/// Starts logging by flags and variables alone.
pub(crate) fn start_log(log: &LogArgs, default: &str) -> Result<(), Failure> {
    let level = log.log_level.as_deref().unwrap_or(default);
    logging::start(level, log.log_format.unwrap_or(LogFormat::Text))
}

/// A runtime on this thread.
pub(crate) fn current_thread() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the runtime cannot be started", &error))
}

/// A runtime on all cores.
pub(crate) fn multi_thread() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the runtime cannot be started", &error))
}

/// The matches of the innermost subcommand.
fn leaf(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| leaf(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines_of_the_manual_are_understood() {
        for line in [
            "overlord apply -f a.yaml -f dir --wait --timeout 30s",
            "overlord get clusters",
            "overlord get cluster orders -o yaml",
            "overlord get instances orders -o wide -w",
            "overlord get tasks --server http://127.0.0.1:1",
            "overlord describe cluster orders",
            "overlord endpoints orders -o json",
            "overlord delete cluster orders --yes",
            "overlord validate -f -",
            "overlord task pause orders.update.1",
            "overlord task restart orders --outdated",
            "overlord backup overlord.backup --etcd http://10.0.0.1:2379",
            "overlord restore overlord.backup --dry-run --cluster orders --cluster pages",
            "overlord store status -o json",
            "overlord store accept --yes",
            "overlord config show --mesos m:5050 --log-level debug",
            "overlord controller --config x.toml",
            "overlord sandbox --dir d --agents 3 --apply examples --wait-ready",
            "overlord sandbox fault agent-lost agent-1",
            "overlord completion bash",
            "overlord supervise",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "overlord",
            "overlord get pods",
            "overlord delete orders",
            "overlord apply",
            "overlord task restart orders",
            "overlord store",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn every_flag_with_a_variable_is_named_after_the_program() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id();
                if !matches!(id.as_str(), "help" | "version") {
                    assert!(argument.get_help().is_some(), "{} {id} has no help", command.get_name());
                }
                if let Some(variable) = argument.get_env() {
                    let variable = variable.to_string_lossy();
                    // The executor also reads the variables that Mesos sets.
                    assert!(
                        variable.starts_with("OVERLORD_") || variable.starts_with("MESOS_"),
                        "{variable}"
                    );
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
