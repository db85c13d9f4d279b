//! `overlord backup`: everything that is kept in etcd, into one file. It asks etcd itself and no controller: it must
//! work on the day when no controller does.

use std::path::PathBuf;

use clap::ArgMatches;
use jiff::Timestamp;
use overlord_api::keys;
use overlord_reconcile::{Clock as _, SystemClock};
use overlord_store::EtcdStore;

use crate::{
    backup::{file::Writer, is_copied},
    cli,
    commands::controller::etcd_config,
    failure::{Failure, chain},
    output,
    settings::{
        Settings,
        args::{EtcdArgs, LogArgs},
    },
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it goes; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    etcd: EtcdArgs,
}

pub(crate) fn run(args: Args, log: LogArgs, matches: &ArgMatches) -> Result<(), Failure> {
    cli::start_log(&log, "error")?;
    let store = open(args.etcd, log, matches)?;
    cli::current_thread()?.block_on(async {
        let text = take(&store, &args.file, SystemClock::new().now()).await?;
        output::print(&text)
    })
}

/// The store that the controllers' settings name.
pub(crate) fn open(args: EtcdArgs, log: LogArgs, matches: &ArgMatches) -> Result<EtcdStore, Failure> {
    let settings = Settings::resolve(args.into(), log, matches)?;
    EtcdStore::new(etcd_config(&settings)?)
        .map_err(|error| Failure::usage(chain(&error), "look at etcd.endpoints"))
}

/// A call of etcd failed.
pub(crate) fn etcd_failed(error: &overlord_store::Error) -> Failure {
    Failure::failed(chain(error), "look at etcd, and at --etcd or the settings file")
}

async fn take(store: &EtcdStore, file: &std::path::Path, now: Timestamp) -> Result<String, Failure> {
    let mut pages = store.pages(keys::ROOT);
    let mut writer: Option<Writer> = None;
    while let Some(entries) = pages.next().await.map_err(|error| etcd_failed(&error))? {
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(Writer::create(file, pages.revision(), now)?),
        };
        for entry in entries.iter().filter(|entry| is_copied(&entry.key)) {
            writer.add(&entry.key, &entry.value, entry.mod_revision)?;
        }
    }
    let writer = match writer {
        Some(writer) => writer,
        None => Writer::create(file, pages.revision(), now)?,
    };
    let keys = writer.finish(file)?;
    Ok(format!("{keys} keys of store revision {} are in {}\n", pages.revision(), file.display()))
}
