//! The task set: the only spawner. Every background task has a name and an owner that waits for it; a
//! panic in one is logged, counted and told to whoever asks, and leaves the others alone.

use std::{
    any::Any,
    borrow::Cow,
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// A task panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {task} panicked: {message}")]
pub struct TaskPanicked {
    /// The task's name.
    pub task: String,
    /// What the panic said.
    pub message: String,
}

/// Tasks did not end in time and were aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("aborted after {after:?}: {}", names.join(", "))]
pub struct Unfinished {
    /// How long they were waited for.
    pub after: Duration,
    /// Their names.
    pub names: Vec<String>,
}

/// A set of named tasks. Clones share the set. When the last clone is dropped, what still runs is aborted;
/// call [`Tasks::shutdown`] to let it end well.
#[derive(Debug, Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    set: Mutex<Set>,
    names: Arc<Names>,
}

#[derive(Debug, Default)]
struct Set {
    tasks: JoinSet<()>,
    closed: bool,
}

/// What outlives the set inside each task, without keeping the set alive.
#[derive(Debug)]
struct Names {
    running: watch::Sender<Running>,
    panics: watch::Sender<(u64, Option<TaskPanicked>)>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, Cow<'static, str>>,
}

/// Takes the name off the list when its future is dropped, however it ended.
struct Named {
    names: Arc<Names>,
    id: u64,
}

impl Drop for Named {
    fn drop(&mut self) {
        self.names.running.send_modify(|running| drop(running.names.remove(&self.id)));
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty set with a token of its own.
    pub fn new() -> Self {
        Self::child_of(&CancellationToken::new())
    }

    /// An empty set whose token is also cancelled by `parent`.
    pub fn child_of(parent: &CancellationToken) -> Self {
        let names = Names { running: watch::Sender::default(), panics: watch::Sender::default() };
        let shared = Shared { set: Mutex::default(), names: Arc::new(names) };
        Self { shared: Arc::new(shared), stop: parent.child_token() }
    }

    /// Cancelled by [`Tasks::shutdown`]: tasks that run for ever end when it is.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task. After [`Tasks::shutdown`] began, `task` is dropped without being polled.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let mut set = lock(&self.shared.set);
        if set.closed {
            tracing::debug!(task = %name, "not started: the task set is shut down");
            return;
        }
        // What has ended is let go here, so that a set which lives long does not grow.
        while set.tasks.try_join_next().is_some() {}
        let list = Arc::clone(&self.shared.names);
        let mut id = 0;
        list.running.send_modify(|running| {
            id = running.next;
            running.next += 1;
            running.names.insert(id, name.clone());
        });
        let named = Named { names: list, id };
        set.tasks.spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if let Err(panic) = ended {
                let panicked = TaskPanicked { task: name.into_owned(), message: panic_message(&*panic) };
                tracing::error!(task = %panicked.task, panic = %panicked.message, "task panicked");
                named.names.panics.send_modify(|(count, first)| {
                    *count += 1;
                    first.get_or_insert(panicked);
                });
            }
            drop(named);
        });
    }

    /// The names of the tasks that run, in the order they were started.
    pub fn running(&self) -> Vec<String> {
        self.shared.names.running.borrow().names.values().map(ToString::to_string).collect()
    }

    /// How many tasks panicked.
    pub fn panics(&self) -> u64 {
        self.shared.names.panics.borrow().0
    }

    /// Waits until a task has panicked, for those who want to stop then. The first one is told.
    pub async fn panicked(&self) -> TaskPanicked {
        let mut panics = self.shared.names.panics.subscribe();
        let first = panics.wait_for(|(_, first)| first.is_some()).await.ok().and_then(|seen| seen.1.clone());
        match first {
            Some(first) => first,
            // Not reached: the sender lives in `self`.
            None => std::future::pending().await,
        }
    }

    /// Waits until no task runs.
    pub async fn wait_idle(&self) {
        // The sender lives in `self`, so the channel cannot be closed here.
        let _ = self.shared.names.running.subscribe().wait_for(|running| running.names.is_empty()).await;
    }

    /// Cancels the token, starts nothing more, and waits for the tasks; those that still run after `deadline`
    /// are aborted and named.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Unfinished> {
        lock(&self.shared.set).closed = true;
        self.stop.cancel();
        if tokio::time::timeout(deadline, self.wait_idle()).await.is_ok() {
            return Ok(());
        }
        let names = self.running();
        lock(&self.shared.set).tasks.abort_all();
        // An aborted task ends at its next await; one that blocks its thread is not waited for again.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.wait_idle()).await;
        Err(Unfinished { after: deadline, names })
    }
}

/// What a panic said, as far as it is text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_counted_and_leaves_the_others_alone() {
        let tasks = Tasks::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn("bad", async { panic!("no such {}", "thing") });
        tasks.spawn("good", async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send(7).unwrap();
        });
        let panicked = tasks.panicked().await;
        assert_eq!(panicked.to_string(), "task bad panicked: no such thing");
        assert_eq!(tasks.panics(), 1);
        assert_eq!(receiver.await.unwrap(), 7);
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_tasks_that_heed_the_token() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("polite", async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        assert!(tasks.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_aborts_and_names_what_does_not_end() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", pending());
        tasks.spawn(format!("deaf-{}", 2), pending());
        let error = tasks.shutdown(Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(error.to_string(), "aborted after 2s: deaf, deaf-2");
        assert!(tasks.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_starts_after_shutdown() {
        let tasks = Tasks::new();
        tasks.shutdown(Duration::ZERO).await.unwrap();
        tasks.spawn("late", async { panic!("polled") });
        tokio::task::yield_now().await;
        assert_eq!((tasks.panics(), tasks.running().len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_lived_set_forgets_what_ended() {
        let tasks = Tasks::new();
        for _ in 0..100 {
            tasks.spawn("short", async {});
            tokio::task::yield_now().await;
        }
        assert!(lock(&tasks.shared.set).tasks.len() <= 2);
        assert!(tasks.running().len() <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_last_handle_aborts_what_runs() {
        struct Tell(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let tell = Tell(Some(sender));
        let tasks = Tasks::new();
        tasks.spawn("held", async move {
            pending::<()>().await;
            drop(tell);
        });
        tokio::task::yield_now().await;
        drop(tasks);
        receiver.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_token_stops_the_set() {
        let parent = CancellationToken::new();
        let tasks = Tasks::child_of(&parent);
        let token = tasks.token();
        tasks.spawn("child", async move { token.cancelled().await });
        parent.cancel();
        tasks.wait_idle().await;
    }
}
