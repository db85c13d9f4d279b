//! The gate before each start of a node of a redis cluster: its own file and the answers of its peers go into
//! the start rule of `overlord_engines::cluster`, which decides. And the file `nodes.conf`, which belongs to redis: a
//! readable one of the node itself is kept, any other is kept aside. All of it on any [`WorkDir`].

use std::{io, time::Duration};

use futures::{StreamExt as _, stream};
use overlord_api::{Address, keys};
use overlord_engines::{
    AdminError, Dialler,
    cluster::{
        Answer, Assessment, Next, NodeId, NodesConf, Origin, StartRule, Verdict, assess, patch_addresses,
    },
};
use tokio::time::timeout;

use crate::{
    Clearance, ClusterNode, Instance, MachineError, StartRequest, WorkDir, connection::CLIENT_NAME,
    workdir::has_data,
};

/// Time for connecting to a peer, and for its answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for all who are asked together: whoever has not answered by then is silent.
const ROUND_TIMEOUT: Duration = Duration::from_secs(5);

/// Peers that are asked at once; each answer may have half a megabyte.
const AT_ONCE: usize = 16;

/// How long an ask and the pause after it last at most, give or take.
const ASK_SECONDS: u64 = 8;

/// Whether the node may start now, and as what.
pub async fn ask(
    dir: &dyn WorkDir,
    dialler: &Dialler,
    instance: &Instance,
    request: &StartRequest,
) -> Result<Clearance, MachineError> {
    let Some(node) = instance.node else {
        return Ok(Clearance::Start { nodes_conf: None, emptied: false, note: String::new() });
    };
    let Found { conf, origin, patched, mut notes } = find(dir, instance, &node, request)?;
    let mut rule = StartRule::new(conf, origin, patched, has_data(dir), request.asks);
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
                let mut answers =
                    stream::iter(peers).map(|peer| ask_peer(dialler, peer)).buffer_unordered(AT_ONCE);
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

async fn ask_peer(dialler: &Dialler, (id, address): (NodeId, Address)) -> (NodeId, Answer) {
    let look = async {
        let mut admin = dialler.node(address, PEER_TIMEOUT, Some(CLIENT_NAME)).await?;
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
    dir: &dyn WorkDir,
    instance: &Instance,
    node: &ClusterNode,
    request: &StartRequest,
) -> Result<Found, MachineError> {
    let file = dir.nodes_conf()?;
    let key = || keys::nodes_conf(&instance.cluster, instance.address);
    let seed = request.seed.as_deref().map(|text| seed(text, &node.id));
    let seed_or = |notes: Vec<String>| {
        let bad = |reason| MachineError::BadSeed { key: key(), node: node.id.to_string(), reason };
        let missing = || MachineError::NoSeed { dir: dir.path(), key: key() };
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

/// Replaces `nodes.conf`; what redis would not start with as this node is kept aside.
pub fn replace(dir: &dyn WorkDir, instance: &Instance, text: &str) -> Result<(), MachineError> {
    let Some(node) = instance.node else { return Ok(()) };
    match assess(dir.nodes_conf()?.as_deref(), &node.id) {
        Assessment::Absent | Assessment::Ours(_) => {}
        Assessment::Damaged(_) | Assessment::Foreign(_) => dir.keep_nodes_conf_aside()?,
    }
    dir.write_nodes_conf(text)
}
