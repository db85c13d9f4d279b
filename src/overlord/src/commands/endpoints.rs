//! `overlord endpoints`

use overlord_api::Endpoints;

use crate::{
    client::{Client, segment},
    client_settings::ServerArgs,
    failure::Failure,
    output::{self, Format},
    table::Table,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: String,

    /// Output format; name prints addresses alone
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let path = format!("/v1/clusters/{}/endpoints", segment(&args.name));
    let endpoints: Endpoints = Client::new(&args.server)?.get(&path).await?;
    let text = match args.output {
        None | Some(Format::Wide) => table(&endpoints).render(),
        Some(Format::Json) => output::json(&endpoints)?,
        Some(Format::Yaml) => output::yaml(&endpoints)?,
        Some(Format::Name) => endpoints
            .endpoints
            .iter()
            .fold(String::new(), |text, endpoint| text + &format!("{}\n", endpoint.address)),
    };
    output::print(&text)
}

fn table(endpoints: &Endpoints) -> Table {
    let mut table = Table::new(&["ALIAS", "ADDRESS", "WEIGHT", "ROLE", "SLOTS"]);
    for endpoint in &endpoints.endpoints {
        table.row([
            endpoint.alias.clone(),
            endpoint.address.to_string(),
            endpoint.weight.to_string(),
            endpoint.role.clone(),
            endpoint.slots.clone().unwrap_or_default(),
        ]);
    }
    table
}
