//! Folds Mesos status updates into `info`: stored first, acknowledged after. An update that names no
//! recorded task is told to people, and killed only when the record names it as given up.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use overlord_api::{Address, ClusterName, EventLevel, Info, SPEAK, State, keys};
use overlord_mesos::v1::{AgentId, ExecutorId, TaskId, TaskState, TaskStatus};
use overlord_reconcile::Revision;
use overlord_store::Error;

use crate::{
    events::{Happening, NO_CLUSTER},
    fold::{Context, Folded, fold, report_of},
    ledger::{Batch, Expect, LedgerError, Value},
    members::plan::{KILL_AGAIN, SEND_AGAIN},
    shared::{Shared, Stranger},
    witnesses::{forget_homeless, hear, note_homeless},
};

/// Infos written in one transaction: a compare and a put each.
const BATCH: usize = 60;

/// Acknowledgements sent at once.
const ACKNOWLEDGED_AT_ONCE: usize = 16;

/// Pauses between attempts to store an update while the store does not answer.
const STORE_RETRY: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// An executor that was asked where it is, and has not said it, is asked again after this long.
const SPEAK_AGAIN: Duration = Duration::from_secs(10);

/// Where a Mesos task is recorded.
fn find(shared: &Shared, task: &str) -> Option<(ClusterName, Arc<Info>, Revision)> {
    let spots = shared.ledger.index.task(task);
    spots.iter().find_map(|(cluster, address)| current(shared, cluster, *address, task))
}

/// The info at that place, if the task is still its own.
fn current(
    shared: &Shared,
    cluster: &ClusterName,
    address: Address,
    task: &str,
) -> Option<(ClusterName, Arc<Info>, Revision)> {
    let seen = shared.ledger.clusters.get(&keys::info(cluster, address))?;
    match &*seen.value {
        Value::Info(info) if info.mesos_task_id == task => {
            Some((cluster.clone(), Arc::clone(info), seen.mod_revision))
        }
        _ => None,
    }
}

/// Stores and acknowledges `statuses`, in their order. Returns when all are stored, or when this
/// controller leads no more.
pub(crate) async fn absorb(shared: &Shared, statuses: Vec<TaskStatus>) -> Result<(), Error> {
    for status in &statuses {
        if let Some(agent) = &status.agent_id
            && matches!(status.state, TaskState::Starting | TaskState::Running | TaskState::Killing)
        {
            shared.launcher.agent_seen(agent);
        }
    }
    let mut rest: Vec<TaskStatus> = statuses;
    let mut failures = 0;
    while !rest.is_empty() {
        // A task's second update waits for the next round, so that each fold sees the one before it.
        let mut seen: BTreeSet<TaskId> = BTreeSet::new();
        let (round, later): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|status| seen.len() < BATCH && seen.insert(status.task_id.clone()));
        match store_round(shared, &round).await {
            Ok(()) => {
                failures = 0;
                acknowledge(shared, &round).await;
                rest = later;
            }
            Err(LedgerError::Conflict) => {
                // The cache knows better by now, as a rule; else its watch is behind.
                if failures > 0 {
                    tokio::time::sleep(STORE_RETRY[failures]).await;
                }
                failures = (failures + 1).min(STORE_RETRY.len() - 1);
                rest = in_order(round, later);
            }
            Err(LedgerError::Store(error @ (Error::Fenced(_) | Error::Denied(_)))) => return Err(error),
            Err(LedgerError::Store(error)) => {
                tracing::warn!(%error, updates = round.len() + later.len(), "status updates wait for the store");
                tokio::time::sleep(STORE_RETRY[failures]).await;
                failures = (failures + 1).min(STORE_RETRY.len() - 1);
                rest = in_order(round, later);
            }
        }
    }
    Ok(())
}

fn in_order(mut round: Vec<TaskStatus>, later: Vec<TaskStatus>) -> Vec<TaskStatus> {
    round.extend(later);
    round
}

async fn store_round(shared: &Shared, round: &[TaskStatus]) -> Result<(), LedgerError> {
    let mut batch = Batch::default();
    let mut touched: BTreeSet<ClusterName> = BTreeSet::new();
    let mut happenings: Vec<(ClusterName, Happening)> = Vec::new();
    let mut answered: Vec<(&TaskId, ClusterName, Option<AgentId>)> = Vec::new();
    for status in round {
        if let Some(report) = report_of(status) {
            hear(shared, status.task_id.as_str(), &report);
        }
        let Some((cluster, info, revision)) = find(shared, status.task_id.as_str()) else {
            let pause = shared.sync.paused(&status.task_id);
            stranger(shared, status, pause).await;
            continue;
        };
        let agent_registered =
            status.agent_id.as_ref().is_some_and(|agent| shared.launcher.is_registered(agent))
                || shared.launcher.is_registered(&AgentId::new(info.agent_id.as_str()));
        let doubted = shared.sync.doubted(&status.task_id);
        let context = Context { agent_registered, doubted: doubted.as_ref(), now: shared.clock.now() };
        let explained = shared.deaths.explain(status);
        match fold(&info, explained.as_ref().unwrap_or(status), context) {
            Folded::Unchanged => answered.push((&status.task_id, cluster, away(&info))),
            Folded::Ask => {
                tracing::info!(task = %status.task_id, state = %status.state, "asking mesos whether that is so");
                let agent = AgentId::new(info.agent_id.as_str());
                shared.sync.doubt(shared.clock.monotonic(), agent, status.clone());
            }
            Folded::Changed(next, happening) => {
                batch.put_json(keys::info(&cluster, info.address()), &*next, Expect::At(revision));
                happenings.extend(happening.map(|happening| (cluster.clone(), happening)));
                answered.push((&status.task_id, cluster.clone(), away(&next)));
                touched.insert(cluster);
            }
        }
    }
    if !batch.is_empty() {
        shared.ledger.commit(batch).await?;
    }
    for (cluster, happening) in happenings {
        shared.events.record(cluster.as_str(), happening);
    }
    // Only what is stored is answered: a pass in between would see the old state without an open question.
    for (task, cluster, away) in answered {
        let waited_for = match away {
            Some(agent) => shared.sync.unreachable(shared.clock.monotonic(), task.clone(), agent),
            None => shared.sync.heard(task),
        };
        if waited_for {
            touched.insert(cluster);
        }
    }
    for cluster in touched {
        shared.enqueue(&cluster);
    }
    Ok(())
}

/// The agent of an instance that is recorded as out of reach.
fn away(info: &Info) -> Option<AgentId> {
    (info.observed.state == State::Unreachable).then(|| AgentId::new(info.agent_id.as_str()))
}

async fn acknowledge(shared: &Shared, round: &[TaskStatus]) {
    let wanted = round.iter().filter(|status| status.uuid.is_some());
    stream::iter(wanted)
        .for_each_concurrent(ACKNOWLEDGED_AT_ONCE, |status| async move {
            if let Err(error) = shared.mesos.acknowledge(status).await {
                // Mesos repeats what is not acknowledged, and storing it again changes nothing.
                tracing::debug!(task = %status.task_id, %error, "update not acknowledged");
            }
        })
        .await;
}

/// An update of a task that no info names. `pause` is that of the question it answers.
async fn stranger(shared: &Shared, status: &TaskStatus, pause: Option<Duration>) {
    let over = status.state.is_terminal();
    let task = status.task_id.as_str();
    match shared.ledger.index.given_up(task) {
        // The store may have forgotten that it was taken back.
        Some(_) if !over && shared.went_back.is_some() => {
            tracing::warn!(
                task,
                "a task that was given up runs; it is left alone while the store is not accepted"
            );
        }
        Some(cluster) => {
            if over {
                // The reconciler drops the tombstone.
                shared.memo(&cluster, |memo| memo.buried_over.insert(task.to_owned()));
                shared.enqueue(&cluster);
            } else if !matches!(status.state, TaskState::Unreachable | TaskState::NotKnown) {
                tracing::info!(task, "a task that was given up is back: killing it");
                let killed = shared.mesos.kill(status.task_id.clone(), status.agent_id.clone(), None).await;
                if let Err(error) = killed {
                    tracing::debug!(task, %error, "kill not sent");
                }
                // The answer is killed again, later and later.
                let pause = pause.unwrap_or(SEND_AGAIN).clamp(SEND_AGAIN, KILL_AGAIN);
                let (task, agent) = (status.task_id.clone(), status.agent_id.clone());
                shared.sync.ask_after(shared.clock.monotonic(), pause, task, agent);
            }
        }
        None if over || status.state == TaskState::NotKnown => {
            forget_homeless(shared, task);
            if let Some((cluster, _)) = shared.ledger.index.whose(task) {
                let was = shared.memo(&cluster, |memo| memo.strangers.remove(task).is_some());
                if was {
                    shared.enqueue(&cluster);
                }
            }
        }
        None if status.state == TaskState::Unreachable => {}
        None => unrecorded(shared, status).await,
    }
}

/// A Mesos task runs and no info names it. When it is one of a cluster that is recorded, its executor is asked where
/// it is: with that it can be recorded again, and until then nothing is launched in its place.
async fn unrecorded(shared: &Shared, status: &TaskStatus) {
    let task = status.task_id.as_str();
    let Some((cluster, (member, incarnation, attempt))) = shared.ledger.index.whose(task) else {
        shared.events.record(
            NO_CLUSTER,
            Happening {
                object: format!("task-{task}"),
                reason: "UnknownTask",
                level: EventLevel::Warning,
                message: format!(
                    "mesos runs task {task}, which no record names; it is left alone, a person must decide"
                ),
            },
        );
        let report = report_of(status);
        let cluster = report.as_ref().and_then(|report| report.cluster.as_ref());
        note_homeless(shared, task, cluster);
        if report.is_none() {
            ask_executor(shared, status).await;
        }
        return;
    };
    forgotten(shared, task, &cluster, attempt);
    let report = report_of(status);
    let agent = status.agent_id.clone();
    let known = shared.memo(&cluster, |memo| {
        let before = memo.strangers.remove(task);
        let was = before.is_some();
        let (old_agent, old_report) = before.map_or((None, None), |old| (old.agent, old.report));
        let stranger = Stranger {
            member,
            incarnation,
            attempt,
            agent: agent.clone().or(old_agent),
            report: report.clone().or(old_report),
        };
        memo.strangers.insert(task.to_owned(), stranger);
        was
    });
    if !known {
        shared.events.record(
            cluster.as_str(),
            Happening {
                object: format!("member/{member}"),
                reason: "UnknownTask",
                level: EventLevel::Warning,
                message: format!("mesos runs {task}, which no info names: its executor is asked where it is"),
            },
        );
    }
    if report.is_none() {
        ask_executor(shared, status).await;
    }
    shared.enqueue(&cluster);
}

/// A launch is counted in the record before its ACCEPT leaves. A task with a number beyond that was launched by a store
/// that this one is an older backup of, however far it has come since.
fn forgotten(shared: &Shared, task: &str, cluster: &ClusterName, attempt: u64) {
    let Ok(Some(record)) = shared.ledger.record(cluster) else { return };
    let record = record.value;
    let generation = shared.high_water.mark_of(0).generation;
    // Of an earlier generation that is known already, and the count is corrected.
    if attempt <= record.attempts || record.generation != generation || shared.went_back.is_some() {
        return;
    }
    tracing::error!(task, %cluster, counted = record.attempts, "mesos runs a task whose launch the store has forgotten");
    shared.high_water.forgot();
}

/// Asks the executor of a task to report how it is.
async fn ask_executor(shared: &Shared, status: &TaskStatus) {
    let Some(agent) = &status.agent_id else { return };
    let task = status.task_id.as_str();
    let executor = ExecutorId::new(task);
    if let Err(error) = shared.mesos.message(agent.clone(), executor, Bytes::from_static(SPEAK)).await {
        tracing::debug!(task, %error, "executor not asked");
    }
    // A message may get lost: Mesos is asked again, and then so is the executor.
    let (task, agent) = (status.task_id.clone(), status.agent_id.clone());
    shared.sync.ask_after(shared.clock.monotonic(), SPEAK_AGAIN, task, agent);
}
