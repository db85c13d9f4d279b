//! `overlord endpoints`

use overlord_api::Endpoints;

use crate::{
    client::{Client, segment},
    client_settings::ServerArgs,
    commands::shards::slot_count,
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

/// Ranges as they are; of a digest how many slots it is of.
fn slots(told: &str) -> String {
    if told.contains(':') { format!("{} slots", slot_count(told)) } else { told.to_owned() }
}

fn table(endpoints: &Endpoints) -> Table {
    let mut table = Table::new(&["ALIAS", "ADDRESS", "WEIGHT", "ROLE", "SLOTS"]);
    for endpoint in &endpoints.endpoints {
        table.row([
            endpoint.alias.clone(),
            endpoint.address.to_string(),
            endpoint.weight.to_string(),
            endpoint.role.clone(),
            endpoint.slots.as_deref().map(slots).unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_shown_and_digests_counted() {
        assert_eq!(slots("0-5460 5462"), "0-5460 5462");
        assert_eq!(slots("5461:2b1d08058fb1ee2b"), "5461 slots");
    }
}
