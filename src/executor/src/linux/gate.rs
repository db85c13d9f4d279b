//! The gate before each start of a node of a redis cluster: its own file and the answers of its peers go into
//! the start rule of `overlord_engines::cluster`, which decides. And the file `nodes.conf`, which belongs to redis: a
//! readable one of the node itself is kept, any other is kept aside.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use overlord_api::{Address, keys};
use overlord_engines::{
    AdminError, ClusterAdmin, ServerConf,
    cluster::{
        Answer, Assessment, MAX_NODES_CONF, Next, NodeId, NodesConf, Origin, StartRule, Verdict, assess,
        patch_addresses,
    },
};
use tokio::time::timeout;

use super::{CLIENT_NAME, dump, files};
use crate::{Clearance, ClusterNode, Instance, Layout, MachineError, StartRequest};

/// Time for connecting to a peer, and for its answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for all who are asked together: whoever has not answered by then is silent.
const ROUND_TIMEOUT: Duration = Duration::from_secs(5);

/// Peers that are asked at once; each answer may have half a megabyte.
const AT_ONCE: usize = 16;

/// How long an ask and the pause after it last at most, give or take.
const ASK_SECONDS: u64 = 8;

/// Files `nodes.conf.damaged.<unix time>` that are kept.
const KEPT_DAMAGED: usize = 3;

/// Whether the node may start now, and as what.
pub(crate) async fn ask(
    layout: &Layout,
    instance: &Instance,
    request: &StartRequest,
) -> Result<Clearance, MachineError> {
    let Some(node) = instance.node else {
        return Ok(Clearance::Start { nodes_conf: None, emptied: false, note: String::new() });
    };
    let Found { conf, origin, patched, mut notes } = find(layout, instance, &node, request)?;
    let mut rule = StartRule::new(conf, origin, patched, has_data(layout, instance), request.asks);
    if request.given_up {
        rule = rule.given_up();
    }
    if !request.first {
        // It ran in this Mesos task: since then only the asks have passed, each with a pause of a second at most.
        rule = rule.dead_for(u64::from(request.asks).saturating_mul(ASK_SECONDS));
    }
    loop {
        match rule.proceed() {
            Next::Ask(peers) => {
                let mut answers = stream::iter(peers).map(ask_peer).buffer_unordered(AT_ONCE);
                let hearing = async {
                    while let Some((id, answer)) = answers.next().await {
                        rule.hear(id, answer);
                    }
                };
                // What was heard until then is kept.
                let _ = timeout(ROUND_TIMEOUT, hearing).await;
            }
            Next::Done(Verdict::Wait(why)) => return Ok(Clearance::Wait(why)),
            Next::Done(Verdict::Start { conf, successor, emptied }) => {
                if let Some(successor) = successor {
                    // Its role tells that from now on; a note would outlive it.
                    tracing::info!(%successor, "starts as the replica of the node that took over");
                }
                if emptied {
                    notes.push("it starts as a master without data: nobody has any of its shard".to_owned());
                }
                let nodes_conf = conf.map(|conf| conf.to_string());
                return Ok(Clearance::Start { nodes_conf, emptied, note: notes.join("; ") });
            }
        }
    }
}

async fn ask_peer((id, address): (NodeId, Address)) -> (NodeId, Answer) {
    let look = async {
        let mut admin = ClusterAdmin::connect(address, PEER_TIMEOUT, Some(CLIENT_NAME)).await?;
        admin.look().await
    };
    let answer = match look.await {
        Ok(told) => Answer::Told(Box::new(told)),
        Err(AdminError::Loading { .. }) => Answer::Loading,
        Err(AdminError::Connect { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused => {
            Answer::Refused
        }
        Err(error) => {
            tracing::debug!(%error, %id, "a peer is silent");
            Answer::Silent
        }
    };
    (id, answer)
}

/// The file to judge by.
struct Found {
    conf: NodesConf,
    origin: Origin,
    /// It is not as it lies in the directory, though redis left it there.
    patched: bool,
    notes: Vec<String>,
}

fn find(
    layout: &Layout,
    instance: &Instance,
    node: &ClusterNode,
    request: &StartRequest,
) -> Result<Found, MachineError> {
    let path = layout.nodes_conf(instance);
    let file = read(&path)?;
    let key = || keys::nodes_conf(&instance.cluster, instance.address);
    let seed = request.seed.as_deref().map(|text| seed(text, &node.id));
    let seed_or = |notes: Vec<String>| {
        let bad = |reason| MachineError::BadSeed { key: key(), node: node.id.to_string(), reason };
        let missing = || MachineError::NoSeed { dir: layout.work_dir(instance), key: key() };
        let conf = seed.clone().ok_or_else(missing)?.map_err(bad)?;
        // A file that was there and is no good is none of a first launch.
        let never = request.first && instance.launches == 0 && notes.is_empty();
        let origin = if never { Origin::FirstSeed } else { Origin::LaterSeed };
        Ok(Found { conf, origin, patched: false, notes })
    };
    match assess(file.as_deref(), &node.id) {
        Assessment::Ours(conf) => {
            // The leader wrote the seed for this launch: it has the addresses of this hour.
            let moved = request.first.then_some(seed).flatten().and_then(Result::ok);
            let conf_now = moved.map_or_else(|| conf.clone(), |seed| readdressed(&conf, &seed, instance));
            let patched = conf_now != conf;
            Ok(Found { conf: conf_now, origin: Origin::Redis, patched, notes: Vec::new() })
        }
        Assessment::Absent => seed_or(Vec::new()),
        Assessment::Damaged(why) => {
            seed_or(vec![format!("nodes.conf was damaged and is kept aside ({why})")])
        }
        Assessment::Foreign(id) => {
            seed_or(vec![format!("nodes.conf was that of node {id} and is kept aside")])
        }
    }
}

/// The seed of a node, or what is wrong with it.
fn seed(text: &str, id: &NodeId) -> Result<NodesConf, String> {
    let conf = NodesConf::parse(text.as_bytes()).map_err(|fault| fault.to_string())?;
    if conf.myself().id == *id { Ok(conf) } else { Err(format!("it is that of node {}", conf.myself().id)) }
}

/// The node's file with the addresses of its seed, and its own.
fn readdressed(conf: &NodesConf, seed: &NodesConf, instance: &Instance) -> NodesConf {
    let own = instance.node.map(|node| (node.id, (instance.address, Some(node.bus_port))));
    let known = seed.nodes().iter().filter_map(|node| {
        let address = node.address.address()?;
        Some((node.id, (address, node.address.bus_port())))
    });
    patch_addresses(conf, &known.chain(own).collect())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, MachineError> {
    // One byte more than it may have is enough to see that it is too long.
    files::read_bytes(path, MAX_NODES_CONF as u64 + 1).map_err(MachineError::file("read", path))
}

/// Whether the directory holds data that redis would load: without an append-only file, the dump.
fn has_data(layout: &Layout, instance: &Instance) -> bool {
    let dir = layout.work_dir(instance);
    let filled = |path: PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    let conf = fs::read_to_string(layout.conf(instance)).ok().and_then(|text| ServerConf::parse(&text).ok());
    let appends = conf.as_ref().is_some_and(|conf| conf.get("appendonly") == Some("yes"));
    if !appends {
        // A dump that the configuration does not promise is set aside at the start.
        return conf.is_some_and(|conf| !dump::keeps_nothing(&conf)) && filled(dir.join(dump::FILE));
    }
    // A folder of several since 7.0.
    let entries = fs::read_dir(dir.join("appendonlydir")).into_iter().flatten().flatten();
    let data = |name: &std::ffi::OsStr| !name.to_string_lossy().ends_with(".manifest");
    filled(dir.join("appendonly.aof"))
        || entries.into_iter().any(|entry| data(&entry.file_name()) && filled(entry.path()))
}

/// Replaces `nodes.conf`; what redis would not start with as this node is kept aside.
pub(crate) fn replace(
    layout: &Layout,
    instance: &Instance,
    text: &str,
    now: Timestamp,
) -> Result<(), MachineError> {
    let path = layout.nodes_conf(instance);
    let Some(node) = instance.node else { return Ok(()) };
    let aside = match assess(read(&path)?.as_deref(), &node.id) {
        Assessment::Absent | Assessment::Ours(_) => false,
        Assessment::Damaged(_) | Assessment::Foreign(_) => true,
    };
    if aside {
        keep_aside(&path, now)?;
    }
    files::replace(&path, text.as_bytes(), files::FILE_MODE)
}

fn keep_aside(path: &Path, now: Timestamp) -> Result<(), MachineError> {
    let mut kept = kept_aside(path);
    let newest = kept.last().map(|(time, _)| time.saturating_add(1));
    // Later than all others, whatever the clock says: the times order them.
    let time = newest.map_or(now.as_second(), |newest| newest.max(now.as_second()));
    let aside = path.with_file_name(format!("{PREFIX}{time}"));
    fs::rename(path, &aside).map_err(MachineError::file("move aside", path))?;
    tracing::warn!(to = %aside.display(), "kept a nodes.conf aside");
    kept.push((time, aside));
    let surplus = kept.len().saturating_sub(KEPT_DAMAGED);
    for (_, path) in kept.into_iter().take(surplus) {
        remove(&path).map_err(MachineError::file("remove", &path))?;
    }
    Ok(())
}

const PREFIX: &str = "nodes.conf.damaged.";

/// The files kept aside, the oldest first.
fn kept_aside(path: &Path) -> Vec<(i64, PathBuf)> {
    let entries = path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let time = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let mut kept: Vec<(i64, PathBuf)> =
        entries.filter_map(|entry| Some((time(&entry.file_name())?, entry.path()))).collect();
    kept.sort();
    kept
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
