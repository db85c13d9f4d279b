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
    /// Let a paused task go on, and one that waits at its canary pass it
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
    let (which, patch, done) = args.what.order();
    let view = Client::new(&which.server)?.patch_task(&which.id, patch).await?;
    output::print(&format!("task {} {done}\n", view.id))
}

impl What {
    /// Of which task, what is asked for, and what a person is told.
    fn order(self) -> (Which, TaskPatch, &'static str) {
        let (which, desired, done) = match self {
            Self::Pause(which) => (which, TaskDesired::Pause, "will pause"),
            Self::Resume(which) => (which, TaskDesired::Run, "will go on"),
            Self::Abort(which) => (which, TaskDesired::Abort, "will be aborted"),
        };
        (which, TaskPatch { desired, promote: (desired == TaskDesired::Run).then_some(true) }, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_resume_lets_a_task_pass_its_canary() {
        let which = || Which { id: "x".into(), server: ServerArgs::default() };
        for (what, desired, promote) in [
            (What::Pause(which()), TaskDesired::Pause, None),
            (What::Resume(which()), TaskDesired::Run, Some(true)),
            (What::Abort(which()), TaskDesired::Abort, None),
        ] {
            assert_eq!(what.order().1, TaskPatch { desired, promote });
        }
    }
}
