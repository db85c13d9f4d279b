//! `overlord completion`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, failure::Failure, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell; load the script with `source <(overlord completion bash)`
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "overlord", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
