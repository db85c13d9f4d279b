//! Carries the model through time: its timers, its effects, its saved state.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use overlord_mesos::v1::ContainerId;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Mesos,
    launcher::{ExitReporter, LaunchError, Launcher},
    mesos::Effect,
    model::{Input, StartExecutor},
    state_file,
};

/// Changes that come within so long are saved together.
const SAVE_DELAY: Duration = Duration::from_millis(100);

pub(crate) struct Driver {
    pub(crate) mesos: Mesos,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) effects: mpsc::UnboundedReceiver<Effect>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) shutdown: CancellationToken,
}

type Started = (ContainerId, Result<Option<u32>, LaunchError>);

impl Driver {
    /// Runs until shut down. What changed is saved before it ends.
    pub(crate) async fn run(mut self) {
        let mut starts: JoinSet<Started> = JoinSet::new();
        // Containers that are being started, and those of them that are to be killed as soon as they are.
        let mut starting: BTreeSet<ContainerId> = BTreeSet::new();
        let mut doomed: BTreeSet<ContainerId> = BTreeSet::new();
        let mut saved_changes = None;
        let mut save_at: Option<Instant> = None;
        loop {
            let due = self.mesos.next_wakeup();
            if self.state_dir.is_some() && save_at.is_none() && saved_changes != Some(self.mesos.changes()) {
                save_at = Some(in_future(SAVE_DELAY));
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(effect) = self.effects.recv() => match effect {
                    Effect::Start(start) => {
                        starting.insert(start.container.clone());
                        starts.spawn(start_one(self.mesos.clone(), Arc::clone(&self.launcher), *start));
                    }
                    Effect::Kill(container) if starting.contains(&container) => {
                        doomed.insert(container);
                    }
                    Effect::Kill(container) => self.launcher.kill(&container),
                },
                Some(done) = starts.join_next() => {
                    // A launcher that panics says nothing more; the registration time-out ends its executor.
                    let Ok((container, outcome)) = done else { continue };
                    starting.remove(&container);
                    match outcome {
                        Ok(pid) => {
                            self.mesos.step(Input::Started { container: container.clone(), pid });
                            if doomed.remove(&container) {
                                self.launcher.kill(&container);
                            }
                        }
                        Err(error) => {
                            doomed.remove(&container);
                            let message = error.to_string();
                            self.mesos.step(Input::NotStarted { container, message });
                        }
                    }
                }
                () = sleep_until(save_at) => {
                    save_at = None;
                    saved_changes = Some(self.save().await);
                }
                () = self.mesos.woken() => {}
                () = sleep_until(due) => {
                    self.mesos.step(Input::Tick);
                }
            }
        }
        if saved_changes != Some(self.mesos.changes()) {
            self.save().await;
        }
    }

    /// Writes the state; which changes it holds.
    async fn save(&self) -> u64 {
        let (changes, saved) = self.mesos.saved();
        let Some(dir) = self.state_dir.clone() else { return changes };
        let written = tokio::task::spawn_blocking(move || state_file::write(&dir, &saved)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the state of Mesos is not saved"),
            Err(error) => tracing::warn!(error = %error, "the state of Mesos is not saved"),
        }
        changes
    }
}

async fn start_one(mesos: Mesos, launcher: Arc<dyn Launcher>, start: StartExecutor) -> Started {
    let container = start.container.clone();
    let exits = ExitReporter::new(mesos, container.clone());
    (container, launcher.start(start, exits).await)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn in_future(delay: Duration) -> Instant {
    tokio::time::sleep(delay).deadline()
}
