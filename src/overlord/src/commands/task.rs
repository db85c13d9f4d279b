//! `overlord task`

use overlord_api::TaskDesired;
use overlord_server::view::TaskPatch;

use crate::{client::Client, client_settings::ServerArgs, failure::Failure, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Stop a task where it is; healing goes on
    Pause(Which),
    /// Let a paused task go on
    Resume(Which),
    /// End a task where it is
    Abort(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The task, as `overlord get tasks` lists it
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let (which, desired, done) = match args.what {
        What::Pause(which) => (which, TaskDesired::Pause, "will pause"),
        What::Resume(which) => (which, TaskDesired::Run, "will go on"),
        What::Abort(which) => (which, TaskDesired::Abort, "will be aborted"),
    };
    let view = Client::new(&which.server)?.patch_task(&which.id, TaskPatch { desired }).await?;
    output::print(&format!("task {} {done}\n", view.id))
}
