//! `overlord restore`: from a backup into etcd, what is missing there. No controller may lead meanwhile, and none
//! could help: a controller that begins to lead before its records are back launches what it does not find.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::ArgMatches;
use overlord_api::{
    ClusterName, Leader, Record,
    keys::{self, Key},
    read_value,
};
use overlord_reconcile::{Clock as _, SystemClock};
use overlord_store::{Committed, Compare, EtcdStore, Store as _, Txn};

use super::backup::{etcd_failed, open};
use crate::{
    backup::{
        decide::{Decision, Restore, STAGES, World},
        file::{Header, Reader},
        is_copied,
    },
    cli,
    failure::Failure,
    output,
    settings::args::{EtcdArgs, LogArgs},
};

/// Keys written in one transaction, each with a compare; and one more for the leader.
const AT_ONCE: usize = 100;

/// Bytes written in one transaction.
const BYTES_AT_ONCE: usize = 1 << 20;

/// Keys that are kept, named for each reason.
const NAMED: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A backup
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Only say what would be restored and what would not
    #[arg(long)]
    dry_run: bool,

    /// Bring this cluster back although the store went on without it; may be given several times
    #[arg(long = "cluster", value_name = "NAME")]
    clusters: Vec<ClusterName>,

    #[command(flatten)]
    etcd: EtcdArgs,
}

pub(crate) fn run(args: Args, log: LogArgs, matches: &ArgMatches) -> Result<(), Failure> {
    cli::start_log(&log, "error")?;
    let Args { file, dry_run, clusters, etcd } = args;
    // Before anything is written it is known to be whole.
    let mut backup = World::default();
    let mut generation = 0;
    let mut reader = Reader::open(&file)?;
    while let Some(saved) = reader.next()? {
        generation = generation.max(generation_of(&saved.key, &saved.value));
        backup.add(&saved.key, &saved.value);
    }
    let header = reader.header().clone();
    let store = open(etcd, log, matches)?;
    cli::current_thread()?.block_on(async {
        nobody_leads(&store, dry_run).await?;
        let (world, revision) = survey(&store).await?;
        let named = clusters.into_iter().collect();
        let restore = Restore {
            header: &header,
            backup: &backup,
            store: &world,
            named: &named,
            now: SystemClock::new().now(),
        };
        let plan = plan(&file, &restore)?;
        output::print(&plan.text(&header, revision, &restore, dry_run))?;
        if dry_run {
            return Ok(());
        }
        let written = write(&store, &file, &restore).await?;
        accept(&store, generation).await?;
        output::print(&format!("{written} keys are restored{}\n", next(written)))
    })
}

const fn next(written: usize) -> &'static str {
    if written == 0 { "" } else { "; start the controllers: what runs is adopted once mesos has told of it" }
}

async fn nobody_leads(store: &EtcdStore, dry_run: bool) -> Result<(), Failure> {
    let listing = store.get(keys::LEADER).await.map_err(|error| etcd_failed(&error))?;
    match listing.entries.first() {
        Some(entry) if !dry_run => {
            let leader: Option<Leader> = read_value(&entry.value).ok();
            let who = leader.map_or_else(|| String::from("a controller"), |leader| leader.id);
            Err(leads(&who))
        }
        Some(_) | None => Ok(()),
    }
}

fn leads(who: &str) -> Failure {
    Failure::failed(
        format!("{who} leads: nothing is restored under a controller that acts on what it sees"),
        "stop all controllers, wait for the lease to end, and try again; what runs goes on meanwhile",
    )
}

/// In which generation of the store a record was believed last.
fn generation_of(key: &str, value: &[u8]) -> u64 {
    let record: Option<Record> =
        if matches!(Key::parse(key), Key::Record(_)) { read_value(value).ok() } else { None };
    record.map_or(0, |record| record.generation)
}

/// A store without a history was wiped, or is a new one: whoever saw the one before would not believe in it. That it is
/// this one from now on is what a restore says, once everything is back. `generation`: the latest in the backup.
async fn accept(store: &EtcdStore, generation: u64) -> Result<(), Failure> {
    let led = store.get(keys::HISTORY).await.map_err(|error| etcd_failed(&error))?;
    let present = store.get(keys::GENERATION).await.map_err(|error| etcd_failed(&error))?;
    let entry = present.entries.first();
    let now = entry.and_then(|entry| String::from_utf8_lossy(&entry.value).trim().parse().ok()).unwrap_or(0);
    if !led.entries.is_empty() || now > generation {
        return Ok(());
    }
    let unchanged = match entry {
        Some(entry) => Compare::ModRevision(keys::GENERATION.to_owned(), entry.mod_revision),
        None => Compare::Absent(keys::GENERATION.to_owned()),
    };
    let next = generation.saturating_add(1).to_string();
    let txn = Txn::unfenced()
        .when(Compare::Absent(keys::LEADER.to_owned()))
        .when(Compare::Absent(keys::HISTORY.to_owned()))
        .when(unchanged)
        .put(keys::GENERATION, next);
    match store.commit(txn).await.map_err(|error| etcd_failed(&error))? {
        Committed::Yes(_) => Ok(()),
        Committed::No(_) => Err(Failure::failed(
            "a controller began to lead before the store was accepted",
            "look at `overlord store status`; `overlord store accept` accepts it",
        )),
    }
}

/// What is in the store, and at which revision.
async fn survey(store: &EtcdStore) -> Result<(World, i64), Failure> {
    let mut world = World::default();
    let mut pages = store.pages(keys::ROOT);
    while let Some(entries) = pages.next().await.map_err(|error| etcd_failed(&error))? {
        for entry in entries.iter().filter(|entry| is_copied(&entry.key)) {
            world.add(&entry.key, &entry.value);
        }
    }
    Ok((world, pages.revision()))
}

/// What would be done, for people.
#[derive(Debug, Default)]
struct Plan {
    restored: Vec<String>,
    same: usize,
    /// By reason.
    kept: BTreeMap<String, Vec<String>>,
}

fn plan(path: &Path, restore: &Restore<'_>) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut reader = Reader::open(path)?;
    while let Some(saved) = reader.next()? {
        match restore.decide(&saved) {
            Decision::Restore(..) => plan.restored.push(saved.key),
            Decision::Same => plan.same += 1,
            Decision::Keep(why) => plan.kept.entry(why).or_default().push(saved.key),
        }
    }
    Ok(plan)
}

impl Plan {
    fn text(&self, header: &Header, revision: i64, restore: &Restore<'_>, all: bool) -> String {
        let Header { store_revision, taken_at, .. } = header;
        let mut text =
            format!("backup of {taken_at}, store revision {store_revision}; the store is at {revision}\n");
        // Writing to a string does not fail.
        if revision < *store_revision {
            text.push_str(
                "the store is younger than the backup: unless nobody has led it yet, controllers that knew the old one \
                 say that etcd went back, and hold everything until a person accepts this one\n",
            );
        }
        if all {
            for key in &self.restored {
                let _ = writeln!(text, "+ {key}");
            }
        }
        for (why, keys) in &self.kept {
            let shown = if all { keys.len() } else { NAMED };
            for key in keys.iter().take(shown) {
                let _ = writeln!(text, "~ {key}: not restored: {why}");
            }
            if let more @ 1.. = keys.len().saturating_sub(shown) {
                let _ = writeln!(text, "~ and {more} more: {why}");
            }
        }
        let newer = restore.store.without(restore.backup).count();
        let (restored, kept) = (self.restored.len(), self.kept.values().map(Vec::len).sum::<usize>());
        let verb = if all { "would be restored" } else { "to be restored" };
        let _ = writeln!(
            text,
            "{restored} {verb}, {} the same, {kept} not restored, {newer} of {} in the store are not in the backup and \
             stay",
            self.same,
            restore.store.len()
        );
        text
    }
}

/// Writes what is decided, stage by stage; each key only while it is not there, and only while nobody leads.
async fn write(store: &EtcdStore, path: &Path, restore: &Restore<'_>) -> Result<usize, Failure> {
    let mut written = 0;
    for stage in STAGES {
        // The file is read again for each stage: it need not fit into memory.
        let mut reader = Reader::open(path)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(saved) = reader.next()? {
            let value = match restore.decide(&saved) {
                Decision::Restore(of, value) if of == stage => value,
                Decision::Restore(..) | Decision::Same | Decision::Keep(_) => continue,
            };
            if batch.len() >= AT_ONCE || (bytes + value.len() > BYTES_AT_ONCE && !batch.is_empty()) {
                written += commit(store, std::mem::take(&mut batch), written).await?;
                bytes = 0;
            }
            bytes += saved.key.len() + value.len();
            batch.push((saved.key, value));
        }
        if !batch.is_empty() {
            written += commit(store, batch, written).await?;
        }
    }
    Ok(written)
}

async fn commit(store: &EtcdStore, batch: Vec<(String, Vec<u8>)>, before: usize) -> Result<usize, Failure> {
    let n = batch.len();
    let mut txn = Txn::unfenced().when(Compare::Absent(keys::LEADER.to_owned()));
    for (key, value) in batch {
        txn = txn.when(Compare::Absent(key.clone())).put(key, value);
    }
    match store.commit(txn).await.map_err(|error| etcd_failed(&error))? {
        Committed::Yes(_) => Ok(n),
        Committed::No(_) => Err(Failure::failed(
            format!("a controller began to lead, or somebody else writes: {before} keys are restored so far"),
            "stop all controllers and try again: it goes on where it stopped",
        )),
    }
}
