//! The one binary: every role of the system is a subcommand.

mod age;
mod backup;
mod cli;
mod client;
mod client_settings;
mod commands;
mod failure;
mod logging;
mod manifests;
mod output;
mod service;
mod settings;
mod table;

fn main() -> std::process::ExitCode {
    cli::run()
}
