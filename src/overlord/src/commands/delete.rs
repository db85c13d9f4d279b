//! `overlord delete cluster`

use std::io::{IsTerminal as _, Write as _};

use overlord_server::view::ClusterView;

use crate::{
    client::{Client, segment},
    client_settings::ServerArgs,
    failure::Failure,
    output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Delete a cluster: its spec, its instances, and their data as spec.deletion says
    #[command(alias = "clusters")]
    Cluster(Cluster),
}

#[derive(Debug, clap::Args)]
struct Cluster {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let What::Cluster(args) = args.what;
    let client = Client::new(&args.server)?;
    if !args.yes {
        let view: ClusterView = client.get(&format!("/v1/clusters/{}", segment(&args.name))).await?;
        confirm(&view)?;
    }
    let deleted = client.delete_cluster(&args.name).await?;
    output::print(&match deleted.task {
        Some(task) => format!("cluster {} is being deleted (task {task})\n", deleted.name),
        None => format!("cluster {} is being deleted\n", deleted.name),
    })
}

fn confirm(view: &ClusterView) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask whether to delete it", "add --yes"));
    }
    let members = view.status.as_ref().map_or(0, |status| status.wanted);
    anstream::eprint!("Delete cluster {} with {members} members and their data? Type its name: ", view.name);
    let mut answer = String::new();
    std::io::stderr()
        .flush()
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::io("the terminal", &error))?;
    if answer.trim() == view.name { Ok(()) } else { Err(Failure::failed("nothing was deleted", "")) }
}
