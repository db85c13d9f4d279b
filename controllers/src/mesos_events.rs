//! What Mesos says, taken in its order: each update is stored before it is acknowledged, and what the subscription is
//! worth is known to everybody.

use std::time::Duration;

use overlord_api::{EventLevel, keys};
use overlord_mesos::{
    SchedulerEvent,
    v1::{AgentId, FrameworkId, TaskId, TaskStatus},
};
use overlord_store::{Error as StoreError, Txn};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Happening,
    instances::absorb,
    leader::NEW_FRAMEWORK,
    ledger::Value,
    shared::{MesosLink, Shared, lock},
    witnesses,
};

/// How often a removed framework looks whether a person has decided.
const REMOVED_RETRY: Duration = Duration::from_secs(5);

/// Status updates folded at once.
const UPDATES_AT_ONCE: usize = 256;

/// Takes what Mesos says, in its order.
pub(crate) async fn listen(
    shared: &Shared,
    mut events: mpsc::Receiver<SchedulerEvent>,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let mut batch: Vec<SchedulerEvent> = Vec::with_capacity(UPDATES_AT_ONCE);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            received = events.recv_many(&mut batch, UPDATES_AT_ONCE) => if received == 0 { return Ok(()); }
        }
        let mut updates: Vec<TaskStatus> = Vec::new();
        for event in batch.drain(..) {
            if let SchedulerEvent::Update(status) = event {
                updates.push(status);
                continue;
            }
            // What came before is stored before.
            absorb(shared, std::mem::take(&mut updates)).await?;
            let removed = matches!(event, SchedulerEvent::Removed { .. });
            take(shared, event).await?;
            if removed {
                return removed_until_decided(shared, shutdown).await;
            }
        }
        absorb(shared, updates).await?;
    }
}

async fn take(shared: &Shared, event: SchedulerEvent) -> Result<(), StoreError> {
    match event {
        SchedulerEvent::Subscribed { framework_id, .. } => {
            tracing::info!(framework = %framework_id, "subscribed to mesos");
            shared.launcher.clear();
            shared.maintenance.clear();
            remember_framework(shared, &framework_id).await?;
            shared.high_water.subscribed(framework_id.as_str());
            let open = open_tasks(shared);
            shared.sync.restart(shared.clock.monotonic(), open.iter().cloned());
            witnesses::ask(shared, &open).await;
            set_link(shared, MesosLink::Up);
        }
        SchedulerEvent::Offers { subscription, offers } => shared.launcher.offered(subscription, offers),
        SchedulerEvent::Rescinded(offer) => shared.launcher.rescinded(&offer),
        SchedulerEvent::Failure(failure) => {
            shared.deaths.note(&failure);
            if let (Some(agent), None) = (&failure.agent_id, &failure.executor_id) {
                tracing::warn!(%agent, "agent lost");
                shared.launcher.agent_lost(agent);
            }
        }
        SchedulerEvent::InverseOffers { inverse_offers } => {
            shared.maintenance.announced(shared, inverse_offers);
        }
        SchedulerEvent::InverseRescinded(offer) => shared.maintenance.rescinded(shared, &offer),
        SchedulerEvent::Disconnected { reason } => {
            tracing::warn!(reason, "not subscribed to mesos");
            disconnected(shared);
            let since = match &*lock(&shared.link) {
                MesosLink::Down { since, .. } => *since,
                MesosLink::Up | MesosLink::Refused { .. } | MesosLink::Removed { .. } => shared.clock.now(),
            };
            set_link(shared, MesosLink::Down { since, reason });
        }
        SchedulerEvent::Refused { message } => {
            tracing::error!(message, "the mesos master refuses this framework");
            disconnected(shared);
            set_link(shared, MesosLink::Refused { message });
        }
        SchedulerEvent::Removed { message } => {
            tracing::error!(message, "mesos removed this framework for good: {}", MesosLink::AFTER_REMOVAL);
            disconnected(shared);
            set_link(shared, MesosLink::Removed { message });
        }
        // Executors speak by status updates only, and we make no operations.
        SchedulerEvent::Message { .. } | SchedulerEvent::Update(_) | SchedulerEvent::OperationStatus(_) => {}
    }
    Ok(())
}

/// Offers are void, and nothing is confirmed.
fn disconnected(shared: &Shared) {
    shared.launcher.clear();
    shared.maintenance.clear();
    shared.sync.suspend();
}

/// Waits until a person asks for a new framework after the master removed this one: then the term ends, and
/// the next one subscribes without an id.
async fn removed_until_decided(shared: &Shared, shutdown: CancellationToken) -> Result<(), StoreError> {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(REMOVED_RETRY) => {}
        }
        match shared.ledger.store.get(keys::FRAMEWORK).await {
            Ok(listing) if listing.entries.first().is_some_and(|e| *e.value == *NEW_FRAMEWORK.as_bytes()) => {
                tracing::info!("a new framework is asked for");
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the framework id cannot be read"),
        }
    }
}

/// The framework id is in etcd before anything is launched under it.
async fn remember_framework(shared: &Shared, id: &FrameworkId) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match remember_framework_once(shared, id).await {
            Ok(()) => return Ok(()),
            Err(error @ (StoreError::Fenced(_) | StoreError::Denied(_))) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "framework id not stored yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// Writes the framework id unless it is there.
pub(crate) async fn remember_framework_once(shared: &Shared, id: &FrameworkId) -> Result<(), StoreError> {
    let listing = shared.ledger.store.get(keys::FRAMEWORK).await?;
    let value = listing.entries.first().map(|entry| entry.value.clone());
    if value.as_ref().is_some_and(|value| **value == *id.as_str().as_bytes()) {
        return Ok(());
    }
    let was = value.as_deref().map(String::from_utf8_lossy);
    let edited = match was.as_deref() {
        None => *lock(&shared.link) == MesosLink::Up,
        Some(was) => was != NEW_FRAMEWORK && !was.is_empty(),
    };
    if edited {
        let was: String = was.as_deref().unwrap_or("nothing").chars().take(100).collect();
        let message = format!("{} was {was:?}: it is put right, this is framework {id}", keys::FRAMEWORK);
        let (object, level) = (String::from("framework"), EventLevel::Warning);
        shared.tell_once(keys::FRAMEWORK, Happening { object, reason: "ValueRestored", level, message });
    }
    let txn = Txn::fenced(&shared.ledger.fence).put(keys::FRAMEWORK, id.as_str().as_bytes().to_vec());
    shared.ledger.store.commit(txn).await.map(|_| ())
}

/// Every task whose state must be confirmed by Mesos.
fn open_tasks(shared: &Shared) -> Vec<(TaskId, Option<AgentId>)> {
    let mut tasks = Vec::new();
    for (_, seen) in shared.ledger.clusters.range(keys::CLUSTERS) {
        match &*seen.value {
            Value::Info(info)
                if !matches!(
                    info.observed.state,
                    overlord_api::State::Failed | overlord_api::State::Gone
                ) =>
            {
                tasks.push((
                    TaskId::new(info.mesos_task_id.as_str()),
                    Some(AgentId::new(info.agent_id.as_str())),
                ));
            }
            Value::Record(record) => tasks.extend(
                record
                    .tombstones
                    .iter()
                    .map(|(task, tomb)| (TaskId::new(task), Some(AgentId::new(tomb.agent_id.as_str())))),
            ),
            _ => {}
        }
    }
    tasks
}

/// Status speaks of the link: every cluster looks again when it changes.
fn set_link(shared: &Shared, link: MesosLink) {
    shared.post.subscribed(link == MesosLink::Up);
    let changed = {
        let mut held = lock(&shared.link);
        let changed = match (&*held, &link) {
            // It is lost anew with each attempt, and told once.
            (MesosLink::Down { .. }, MesosLink::Down { .. }) => false,
            (before, now) => before != now,
        };
        *held = link;
        changed
    };
    if changed {
        for cluster in shared.ledger.known_clusters() {
            shared.enqueue(&cluster);
        }
    }
}

#[cfg(test)]
mod tests;
