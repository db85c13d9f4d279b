//! Executors as witnesses of how far the store was. A controller that has just begun knows only what its state file
//! says, if it has one; the executors have read the store a minute ago. So a few of them are asked, at its first
//! subscription, before it acts on what the store says now. And Mesos is asked for all it runs: what a restored store
//! does not know of tells by its number that it has forgotten something (`instances::forgotten`).

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use overlord_api::{ClusterName, Report, SPEAK};
use overlord_mesos::v1::{AgentId, ExecutorId, TaskId};

use crate::shared::{Shared, lock};

/// How many are asked: spread over all of them, so that no lost host has them all.
const WITNESSES: usize = 16;

/// How long their answers are waited for. One that was slower counts when it comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// While answers are awaited, a pass looks again after this long.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Who was asked.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    asked: Mutex<Option<Asked>>,
}

#[derive(Debug)]
struct Asked {
    /// Who has not answered.
    open: BTreeSet<String>,
    /// Until when answers are awaited, by the monotonic clock.
    until: Duration,
    /// Whether answers may come from others, too: nothing marks the last of them.
    others: bool,
}

impl Witnesses {
    /// Whether what the store says must not be acted on yet.
    pub(crate) fn awaited(&self, now: Duration) -> bool {
        lock(&self.asked)
            .as_ref()
            .is_some_and(|asked| (asked.others || !asked.open.is_empty()) && now < asked.until)
    }

    /// Whether nobody was asked yet.
    fn begin(&self, tasks: &[(TaskId, Option<AgentId>)], until: Duration, others: bool) -> bool {
        let mut asked = lock(&self.asked);
        if asked.is_some() {
            return false;
        }
        let open = tasks.iter().map(|(task, _)| task.as_str().to_owned()).collect();
        *asked = Some(Asked { open, until, others });
        true
    }

    fn answered(&self, task: &str) {
        if let Some(asked) = lock(&self.asked).as_mut() {
            asked.open.remove(task);
        }
    }
}

/// Asks some of the executors of `tasks`, once a process.
pub(crate) async fn ask(shared: &Shared, tasks: &[(TaskId, Option<AgentId>)]) {
    let every = tasks.len().div_ceil(WITNESSES).max(1);
    let some: Vec<_> = tasks.iter().step_by(every).cloned().collect();
    // Who has a memory of its own would have noticed what an unrecorded task can tell. On a new store nothing runs.
    let others = !some.is_empty() && !shared.high_water.remembers();
    if !shared.witnesses.begin(&some, shared.clock.monotonic() + PATIENCE, others) {
        return;
    }
    shared.sync.list_all();
    stream::iter(some)
        .for_each_concurrent(WITNESSES, |(task, agent)| async move {
            let Some(agent) = agent else { return shared.witnesses.answered(task.as_str()) };
            let executor = ExecutorId::new(task.as_str());
            if let Err(error) = shared.mesos.message(agent, executor, Bytes::from_static(SPEAK)).await {
                tracing::debug!(%task, %error, "witness not asked");
                shared.witnesses.answered(task.as_str());
            }
        })
        .await;
}

/// What an executor says of the store.
pub(crate) fn hear(shared: &Shared, task: &str, report: &Report) {
    if let Some(seen) = report.sighting() {
        shared.high_water.heard(seen);
    }
    shared.witnesses.answered(task);
}

/// Remembers of which cluster a task is that no record names.
pub(crate) fn note_homeless(shared: &Shared, task: &str, cluster: Option<&ClusterName>) {
    let mut homeless = lock(&shared.homeless);
    let known = homeless.entry(task.to_owned()).or_default();
    *known = cluster.cloned().or_else(|| known.take());
}

/// A task that no record names is over.
pub(crate) fn forget_homeless(shared: &Shared, task: &str) {
    let Some(Some(cluster)) = lock(&shared.homeless).remove(task) else { return };
    if homeless_of(shared, &cluster).is_empty() {
        // Its spec was refused for their sake.
        shared.memo(&cluster, |memo| memo.refused = None);
        shared.enqueue(&cluster);
    }
}

/// The tasks of a cluster of this name that no record names.
pub(crate) fn homeless_of(shared: &Shared, cluster: &ClusterName) -> Vec<String> {
    let homeless = lock(&shared.homeless);
    homeless.iter().filter(|(_, of)| of.as_ref() == Some(cluster)).map(|(task, _)| task.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(count: usize) -> Vec<(TaskId, Option<AgentId>)> {
        (0..count).map(|n| (TaskId::new(format!("t{n}")), Some(AgentId::new("a")))).collect()
    }

    #[test]
    fn answers_are_awaited_until_all_are_there_and_not_for_long() {
        let witnesses = Witnesses::default();
        assert!(!witnesses.awaited(Duration::ZERO));
        assert!(witnesses.begin(&tasks(2), PATIENCE, false));
        assert!(witnesses.awaited(Duration::ZERO) && !witnesses.awaited(PATIENCE));
        witnesses.answered("t0");
        witnesses.answered("stranger");
        assert!(witnesses.awaited(Duration::ZERO));
        witnesses.answered("t1");
        assert!(!witnesses.awaited(Duration::ZERO));
        assert!(!witnesses.begin(&tasks(2), PATIENCE * 9, false), "once is enough");
    }

    #[test]
    fn those_that_nobody_recorded_are_awaited_where_nothing_else_is_remembered() {
        let witnesses = Witnesses::default();
        assert!(witnesses.begin(&tasks(1), PATIENCE, true));
        witnesses.answered("t0");
        assert!(witnesses.awaited(Duration::ZERO) && !witnesses.awaited(PATIENCE));
    }
}
