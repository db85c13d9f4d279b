//! `overlord task`

use std::collections::BTreeMap;

use overlord_api::{
    ClusterName, PARAM_ONLY, PARAM_ONLY_OUTDATED, Task, TaskDesired, TaskKind, VALUES_VERSION,
};
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
    /// Take note of the keys a cluster lost, and give up masters that are lost without a majority
    Recover(Lost),
    /// Launch members anew, a few at a time and never with data lost unasked
    Restart(Renew),
}

#[derive(Debug, clap::Args)]
struct Lost {
    /// The cluster
    #[arg(value_name = "NAME")]
    cluster: ClusterName,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct Renew {
    /// The cluster
    #[arg(value_name = "NAME")]
    cluster: ClusterName,

    /// Those whose executor was started with other settings than the controller's of now (an older program, too)
    #[arg(long, required = true)]
    outdated: bool,

    #[command(flatten)]
    server: ServerArgs,
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
        What::Recover(lost) => {
            return ask(TaskKind::Recover, BTreeMap::new(), lost.cluster, &lost.server).await;
        }
        What::Restart(renew) => {
            let only = renew.outdated.then(|| (PARAM_ONLY.to_owned(), PARAM_ONLY_OUTDATED.to_owned()));
            let params = only.into_iter().collect();
            return ask(TaskKind::Restart, params, renew.cluster, &renew.server).await;
        }
    };
    let view = Client::new(&which.server)?.patch_task(&which.id, patch_of(desired)).await?;
    output::print(&format!("task {} {done}\n", view.id))
}

async fn ask(
    kind: TaskKind,
    params: BTreeMap<String, String>,
    cluster: ClusterName,
    server: &ServerArgs,
) -> Result<(), Failure> {
    let task = Task {
        version: VALUES_VERSION,
        kind,
        cluster,
        params,
        requested_by: String::new(),
        requested_at: None,
        desired: TaskDesired::Run,
    };
    let view = Client::new(server)?.post_task(&task).await?;
    output::print(&format!("task {} is asked for\n", view.id))
}

/// What is asked of a task; only a resume lets it pass its canary.
fn patch_of(desired: TaskDesired) -> TaskPatch {
    TaskPatch { desired, promote: (desired == TaskDesired::Run).then_some(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_resume_lets_a_task_pass_its_canary() {
        for (desired, promote) in
            [(TaskDesired::Pause, None), (TaskDesired::Run, Some(true)), (TaskDesired::Abort, None)]
        {
            assert_eq!(patch_of(desired), TaskPatch { desired, promote });
        }
    }
}
