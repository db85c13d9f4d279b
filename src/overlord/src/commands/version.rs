//! `overlord version`

use overlord_server::view::VersionView;

use crate::{
    client::{Client, Refusal},
    client_settings::ServerArgs,
    failure::{Exit, Failure},
    output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    output::print(&format!("overlord {}\n", env!("CARGO_PKG_VERSION")))?;
    let client = Client::new(&args.server)?;
    match client.get::<VersionView>("/version").await {
        Ok(version) => {
            output::print(&format!(
                "controller at {}: {} (API {})\n",
                client.server(),
                version.version,
                version.api
            ))?;
            for (engine, versions) in &version.engines {
                let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
                output::print(&format!("  {engine}: {}\n", versions.join(", ")))?;
            }
            Ok(())
        }
        // The question was answered: it is no failure that no controller runs.
        Err(Refusal::Other(failure)) if failure.exit == Exit::NoServer => {
            output::print(&format!("controller at {}: no answer\n", client.server()))
        }
        Err(refusal) => Err(refusal.into()),
    }
}
