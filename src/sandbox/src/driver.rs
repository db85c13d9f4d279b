//! Carries the model through time: its timers, its effects, the folding of its journal.

use std::{collections::BTreeMap, io, sync::Arc};

use overlord_mesos::v1::ContainerId;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Mesos,
    launcher::{self, ExitReporter, LaunchError, Launcher},
    mesos::Effect,
    model::{Input, StartExecutor},
};

pub(crate) struct Driver {
    pub(crate) mesos: Mesos,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) effects: mpsc::UnboundedReceiver<Effect>,
    pub(crate) shutdown: CancellationToken,
}

/// SIGKILL, as a wait status.
const KILLED: i32 = 9;

/// One that succeeded has told so itself.
type Started = Result<(), LaunchError>;

impl Driver {
    /// Runs until shut down.
    pub(crate) async fn run(mut self) {
        let mut starts: JoinSet<Started> = JoinSet::new();
        // Containers that are being started.
        let mut starting: BTreeMap<ContainerId, AbortHandle> = BTreeMap::new();
        let mut probes: JoinSet<()> = JoinSet::new();
        // Folding takes its time; what happens meanwhile goes on in another journal.
        let mut folds: JoinSet<io::Result<()>> = JoinSet::new();
        loop {
            let due = self.mesos.next_wakeup();
            if folds.is_empty()
                && let Some(fold) = self.mesos.fold()
            {
                folds.spawn_blocking(move || fold.write());
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(effect) = self.effects.recv() => match effect {
                    Effect::Start(start) => {
                        let container = start.container.clone();
                        let start = start_one(self.mesos.clone(), Arc::clone(&self.launcher), *start);
                        starting.insert(container, starts.spawn(start));
                    }
                    // What is not there yet does not come to be; what has just come is not known here yet.
                    Effect::Kill(container) => {
                        starting.get(&container).into_iter().for_each(AbortHandle::abort);
                        self.launcher.kill(&container);
                    }
                    Effect::Terminate(container) => {
                        starting.get(&container).into_iter().for_each(AbortHandle::abort);
                        self.launcher.terminate(&container);
                    }
                    Effect::Probe(probe) => {
                        probes.spawn(launcher::probe(self.mesos.clone(), Arc::clone(&self.launcher), *probe));
                    }
                },
                Some(done) = starts.join_next_with_id() => {
                    let (id, outcome) = match done {
                        Ok((id, outcome)) => (id, Some(outcome)),
                        Err(error) => (error.id(), None),
                    };
                    let found = starting.iter().find(|(_, start)| start.id() == id);
                    let Some(container) = found.map(|(container, _)| container.clone()) else { continue };
                    starting.remove(&container);
                    match outcome {
                        Some(Ok(())) => continue,
                        Some(Err(error)) => {
                            self.mesos.step(Input::NotStarted { container, message: error.to_string() })
                        }
                        None => self.mesos.step(Input::Exited { container, status: KILLED }),
                    };
                }
                Some(_told) = probes.join_next() => {}
                Some(folded) = folds.join_next() => told(folded),
                () = self.mesos.woken() => {}
                () = sleep_until(due) => {
                    self.mesos.step(Input::Tick);
                }
            }
        }
        while let Some(folded) = folds.join_next().await {
            told(folded);
        }
    }
}

/// A state that was not folded is still whole: the journals hold it.
fn told(folded: Result<io::Result<()>, JoinError>) {
    let failed = match folded {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(error = %failed, "the journal of Mesos is not folded");
}

async fn start_one(mesos: Mesos, launcher: Arc<dyn Launcher>, start: StartExecutor) -> Started {
    let container = start.container.clone();
    let exits = ExitReporter::new(mesos.clone(), container.clone());
    let pid = launcher.start(start, exits).await?;
    // At once: a fast executor subscribes soon, and its updates carry its pid.
    mesos.step(Input::Started { container, pid });
    Ok(())
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
