//! Executors as witnesses of how far the store was. A controller that has just begun knows only what its state file
//! says, if it has one; the executors have read the store a minute ago. So a few of them are asked, at its first
//! subscription, before it acts on what the store says now.

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

/// Who was asked, and until when answers are awaited, by the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    asked: Mutex<Option<(BTreeSet<String>, Duration)>>,
}

impl Witnesses {
    /// Whether what the store says must not be acted on yet.
    pub(crate) fn awaited(&self, now: Duration) -> bool {
        lock(&self.asked).as_ref().is_some_and(|(open, until)| !open.is_empty() && now < *until)
    }

    /// Whether nobody was asked yet.
    fn begin(&self, tasks: &[(TaskId, Option<AgentId>)], until: Duration) -> bool {
        let mut asked = lock(&self.asked);
        if asked.is_some() {
            return false;
        }
        *asked = Some((tasks.iter().map(|(task, _)| task.as_str().to_owned()).collect(), until));
        true
    }

    fn answered(&self, task: &str) {
        if let Some((open, _)) = lock(&self.asked).as_mut() {
            open.remove(task);
        }
    }
}

/// Asks some of the executors of `tasks`, once a process.
pub(crate) async fn ask(shared: &Shared, tasks: &[(TaskId, Option<AgentId>)]) {
    let every = tasks.len().div_ceil(WITNESSES).max(1);
    let some: Vec<_> = tasks.iter().step_by(every).cloned().collect();
    if !shared.witnesses.begin(&some, shared.clock.monotonic() + PATIENCE) {
        return;
    }
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
    if let Some(mark) = report.store {
        shared.high_water.heard(mark);
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
        assert!(witnesses.begin(&tasks(2), PATIENCE));
        assert!(witnesses.awaited(Duration::ZERO) && !witnesses.awaited(PATIENCE));
        witnesses.answered("t0");
        witnesses.answered("stranger");
        assert!(witnesses.awaited(Duration::ZERO));
        witnesses.answered("t1");
        assert!(!witnesses.awaited(Duration::ZERO));
        assert!(!witnesses.begin(&tasks(2), PATIENCE * 9), "once is enough");
    }
}
