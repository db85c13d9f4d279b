//! `overlord apply`

use std::{path::PathBuf, time::Duration};

use overlord_api::quantity;
use overlord_server::view::{Applied, ApplyView, ErrorView, FaultView};

use crate::{
    client::{Client, Refusal},
    client_settings::ServerArgs,
    failure::{Exit, Failure},
    manifests::{self, ManifestFile},
    output,
};

mod wait;
pub(crate) use wait::{Display, Wanted, wait};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A manifest, a folder of manifests (*.yaml, *.yml, *.json), or - for standard input
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,

    /// Wait until every applied cluster is Ready
    #[arg(short, long)]
    wait: bool,

    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration, requires = "wait")]
    timeout: Duration,

    #[command(flatten)]
    server: ServerArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    quantity::parse_duration(text).map_err(|fault| fault.to_string())
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let mut written = Vec::new();
    let mut failed = None;
    for file in manifests::read(&args.filename)? {
        let outcome = apply_file(&client, &file, &mut written).await?;
        failed = outcome.or(failed);
    }
    if args.wait {
        let wanted =
            written.iter().map(|view| Wanted { name: view.name.clone(), revision: view.config_revision });
        wait(&client, wanted.collect(), args.timeout, &mut Display::for_this_terminal()).await?;
    }
    failed.map_or(Ok(()), |exit| Err(Failure::reported(exit)))
}

/// Applies each document; the faults of one do not hinder the others. `Err` when going on makes no sense.
pub(crate) async fn apply_file(
    client: &Client,
    file: &ManifestFile,
    written: &mut Vec<ApplyView>,
) -> Result<Option<Exit>, Failure> {
    let mut failed = None;
    let documents = file.documents();
    if documents.is_empty() {
        anstream::eprintln!("{}: there is no manifest in it", file.name);
        return Ok(Some(Exit::Failed));
    }
    for (begin, document) in documents {
        let cluster = match document.cluster {
            Ok(cluster) => cluster,
            Err(faults) => {
                anstream::eprintln!("{}", file.render(&faults).trim_end());
                failed = Some(Exit::Failed);
                continue;
            }
        };
        match client.put_manifest(cluster.name.as_str(), document.text).await {
            Ok(view) => {
                output::print(&format!("{}/{} {}\n", view.kind, view.name, word(view.result)))?;
                written.push(view);
            }
            Err(Refusal::Api(error)) if !error.details.is_empty() => {
                report(file, begin, &error);
                failed = Some(Exit::Failed);
            }
            Err(Refusal::Api(error)) => {
                Failure::failed(format!("{}: {}", cluster.name, error.message), error.hint).report();
                failed = Some(Exit::Failed);
            }
            // Without a controller the next document fares no better.
            Err(Refusal::Other(failure)) => return Err(failure),
        }
    }
    Ok(failed)
}

/// The API's faults, as if they had been found here.
fn report(file: &ManifestFile, begin: usize, error: &ErrorView) {
    let (placed, others): (Vec<&FaultView>, Vec<_>) = error.details.iter().partition(|fault| fault.line > 0);
    if !placed.is_empty() {
        let faults: Vec<_> = placed.into_iter().map(|fault| file.locate(begin, fault)).collect();
        anstream::eprintln!("{}", file.render(&faults).trim_end());
    }
    for fault in others {
        Failure::failed(format!("{}: {}: {}", file.name, error.message, fault.message), fault.hint.clone())
            .report();
    }
}

const fn word(applied: Applied) -> &'static str {
    match applied {
        Applied::Created => "created",
        Applied::Configured => "configured",
        Applied::Unchanged => "unchanged",
    }
}
