//! `overlord config show`

use clap::ArgMatches;

use crate::{
    client_settings::ServerArgs,
    failure::Failure,
    output,
    settings::{
        Settings,
        args::{ControllerArgs, LogArgs},
    },
    table::Table,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print every setting, its value, and whether a flag, a variable, the file or the default gave it
    Show(Box<Show>),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    controller: ControllerArgs,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: Args, log: LogArgs, matches: &ArgMatches) -> Result<(), Failure> {
    let What::Show(show) = args.what;
    let settings = Settings::resolve(show.controller, log, matches)?;
    let server = show.server.resolve()?;
    let file = settings.file.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    for row in &settings.rows {
        table.row([row.key.clone(), row.value.clone(), row.origin.to_string()]);
    }
    let text = format!(
        "settings file: {file}\n\n{}\ncommands ask the controller at {} (from {})\n",
        table.render(),
        server.url,
        server.origin
    );
    output::print(&text)
}
