//! The end of every story: a world left alone becomes what is declared, within bounded time, and then nothing
//! is written any more.

use std::{collections::BTreeSet, time::Duration};

use overlord_api::{Address, Info, Kind, Phase, State, Tombstone, keys};
use overlord_engines::ServerConf;
use overlord_mesos::v1::TaskState;

use crate::{cluster, pool::Pool, view::View, world::World};

/// How long a world may take that is whole again: a lost member is replaced after a minute, a member that
/// failed often is tried once a minute.
pub(crate) const BOUND: Duration = Duration::from_secs(15 * 60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// For so long looks are close.
const SOON: Duration = Duration::from_secs(20);

/// From then on it is looked at so much more seldom while nothing is written: the store tells of almost all that changes.
const UNCHANGED: Duration = Duration::from_secs(10);

/// After this, quarantines have ended and are swept.
const SETTLED: Duration = Duration::from_secs(10 * 60);

/// How long nothing may be written then.
const QUIET: Duration = Duration::from_secs(3600);

/// Waits until the world is as declared, for `bound` at most. How long it took.
pub(crate) async fn converge(world: &World, bound: Duration) -> Result<Duration, String> {
    let start = world.trace.now();
    let mut looked: Option<(u64, Duration)> = None;
    loop {
        if let Some(violation) = world.trace.violated() {
            return Err(violation);
        }
        let (writes, now) = (world.store.writes(), world.trace.now());
        let unchanged = looked.is_some_and(|(seen, at)| seen == writes && now.saturating_sub(at) < UNCHANGED);
        if unchanged && now.saturating_sub(start) >= SOON {
            world.pass(LOOK).await;
            continue;
        }
        looked = Some((writes, now));
        let missing = missing(world).await;
        let waited = world.trace.now().saturating_sub(start);
        if missing.is_empty() {
            if let Some(lost) = world.users.lost().into_iter().next() {
                return Err(lost);
            }
            world.trace.line("the world is as declared");
            return Ok(waited);
        }
        if waited > bound {
            return Err(format!("not as declared after {waited:?}: {}", missing.join("; ")));
        }
        // What takes minutes need not be seen to the moment.
        world.pass(if waited < SOON { LOOK } else { 10 * LOOK }).await;
    }
}

/// Waits until everything that ends by time alone has ended. The number of writes so far.
pub(crate) async fn settle(world: &World) -> u64 {
    world.pass(SETTLED).await;
    world.trace.line("silence begins");
    world.writes()
}

/// Nothing was written since the world was quiet, and it is still as declared.
pub(crate) async fn stayed_quiet(world: &World, before: u64) -> Result<(), String> {
    if let Some(violation) = world.trace.violated() {
        return Err(violation);
    }
    let written = world.writes() - before;
    if written > 0 {
        return Err(format!("{written} writes in a time in which nothing happened"));
    }
    let missing = missing(world).await;
    if missing.is_empty() { Ok(()) } else { Err(format!("left alone, it decayed: {}", missing.join("; "))) }
}

/// Waits until everything that ends by time alone has ended, then watches an hour in which nothing is written.
/// Runs are compared up to here; a second one has nothing to add.
pub(crate) async fn stay_quiet(world: &World) -> Result<(), String> {
    world.trace.seal();
    if world.again {
        return Ok(());
    }
    let before = settle(world).await;
    world.pass(QUIET).await;
    stayed_quiet(world, before).await
}

/// What is not as declared.
async fn missing(world: &World) -> Vec<String> {
    let view = world.view().await;
    let mut missing = Vec::new();
    for pool in world.pools.values() {
        pool_missing(&view, pool, &mut missing);
    }
    // What was given up on an agent that will never come back is remembered for ever.
    let agents: BTreeSet<String> =
        world.mesos.agents().into_iter().map(|agent| agent.id.to_string()).collect();
    let mut known: BTreeSet<String> =
        world.pools.keys().map(|name| keys::cluster(&Pool::cluster(name))).collect();
    for (cluster, record) in view.records() {
        let buried = |tombstone: &&Tombstone| agents.contains(&tombstone.agent_id);
        if let Some(tombstone) = record.tombstones.values().find(buried) {
            missing.push(format!("{cluster} has not ended what was at {}", tombstone.address));
        }
        if record.deletion.is_some_and(|mark| mark.done) && !record.tombstones.is_empty() {
            known.insert(keys::cluster(&cluster));
        }
    }
    let left = view.keys(keys::CLUSTERS).into_iter().find(|key| !known.iter().any(|d| key.starts_with(d)));
    if let Some(key) = left {
        missing.push(format!("{key} is left of what was deleted"));
    }

    let infos = view.infos();
    let live = world.mesos.tasks().into_iter().filter(|task| {
        !matches!(task.state, TaskState::Failed | TaskState::Killed | TaskState::Finished | TaskState::Lost)
            && !matches!(task.state, TaskState::Dropped | TaskState::Error | TaskState::Gone)
            // A master never learns what became of a machine that is lost for good.
            && (task.state != TaskState::Unreachable || agents.contains(task.agent_id.as_str()))
    });
    let live: BTreeSet<String> = live.map(|task| task.task_id.as_str().to_owned()).collect();
    let recorded: BTreeSet<String> = infos.iter().map(|(_, info)| info.mesos_task_id.clone()).collect();
    missing.extend(
        live.symmetric_difference(&recorded).map(|task| format!("{task} is only in Mesos or the store")),
    );
    // What takes long to look at waits until the rest is well.
    if missing.is_empty() {
        processes_missing(world, &view, &mut missing);
        for pool in world.pools.values().filter(|pool| pool.kind == Kind::RedisCluster) {
            cluster::missing(&world.hosts, &view, pool, &mut missing);
        }
    }
    missing
}

fn pool_missing(view: &View, pool: &Pool, missing: &mut Vec<String>) {
    let cluster = Pool::cluster(pool.name);
    let Some(status) = view.status(&cluster) else { return missing.push(format!("{cluster} has no status")) };
    if status.phase != Phase::Ready || status.ready != pool.members || status.wanted != pool.members {
        let (phase, ready, wanted) = (status.phase, status.ready, status.wanted);
        missing.push(format!("{cluster} is {phase} with {ready} of {wanted}, declared {}", pool.members));
    }
    if status.updated != pool.members {
        missing.push(format!("{cluster} has {} members updated", status.updated));
    }
    let text = view.mod_revision(&keys::config(&cluster));
    let record = view.record(&cluster);
    if record.is_none_or(|record| record.config_revision != text || record.revision != status.revision) {
        missing.push(format!("{cluster} is not at its newest spec"));
    }
    let infos: Vec<Info> =
        view.infos().into_iter().filter(|(of, _)| *of == cluster).map(|(_, info)| info).collect();
    let serving: BTreeSet<Address> = infos.iter().map(Info::address).collect();
    let listed = view.endpoints(&cluster).map(|list| list.endpoints).unwrap_or_default();
    let listed: BTreeSet<Address> = listed.iter().map(|endpoint| endpoint.address).collect();
    if serving.len() != pool.members as usize || listed != serving {
        missing.push(format!("{cluster} has instances {serving:?} and endpoints {listed:?}"));
    }
    for info in infos {
        let (desired, observed) = (&info.desired, &info.observed);
        let done = observed.config == desired.config && observed.restart == desired.restart;
        if observed.state != State::Running || desired.state != State::Running || !done {
            missing.push(format!("{cluster}/{} is {}, not at what is desired", info.member, observed.state));
        }
        for (directive, value) in &pool.config {
            let conf =
                view.server_conf(&cluster, info.address()).and_then(|text| ServerConf::parse(&text).ok());
            let has = conf.as_ref().and_then(|conf| conf.get(directive));
            if has != Some(value) {
                missing.push(format!("{cluster}/{} has {directive} {has:?}, declared {value}", info.member));
            }
        }
    }
}

/// Exactly one process for each instance, with the settings that the store has.
fn processes_missing(world: &World, view: &View, missing: &mut Vec<String>) {
    let processes = world.hosts.processes();
    let infos = view.infos();
    for seen in &processes {
        let known = infos.iter().any(|(_, info)| info.mesos_task_id == seen.instance.task_id);
        if !known {
            missing.push(format!("process {} at {} is an orphan", seen.pid, seen.instance.address));
        }
    }
    for (cluster, info) in &infos {
        let own: Vec<_> =
            processes.iter().filter(|seen| seen.instance.task_id == info.mesos_task_id).collect();
        let [seen] = own.as_slice() else {
            missing.push(format!("{} of {cluster} has {} processes", info.mesos_task_id, own.len()));
            continue;
        };
        let text = view.server_conf(cluster, info.address()).unwrap_or_default();
        if world.hosts.file(&seen.instance).as_deref() != Some(&text) {
            missing.push(format!("the file of {} is not what the store has", seen.instance.address));
        }
        if !seen.serving || !seen.runs_with(&text) {
            missing.push(format!("{} does not serve with what the store has", seen.instance.address));
        }
    }
}
