//! Against a scripted source: what an informer does when listing or watching goes wrong.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::*;
use crate::{Change, Changed, Changes, Listing, Tasks, TokioClock};

type Watcher = mpsc::UnboundedSender<Result<Vec<Change>, SourceError>>;

/// A source whose content, failures and watches are in the hands of the test.
#[derive(Default)]
struct Script {
    state: Mutex<ScriptState>,
}

#[derive(Default)]
struct ScriptState {
    entries: BTreeMap<String, Entry>,
    revision: Revision,
    lists: u32,
    fail_lists: u32,
    /// Errors of the next watches to be opened.
    fail_watches: VecDeque<SourceError>,
    watches: Vec<(Revision, Watcher)>,
}

impl Script {
    /// Writes a key, and tells the open watch.
    fn put(&self, key: &str) {
        self.write(key, true);
    }

    /// Writes a key that no watch tells of.
    fn put_unheard(&self, key: &str) {
        self.write(key, false);
    }

    fn write(&self, key: &str, tell: bool) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        let entry = Entry {
            key: Arc::from(key),
            value: Bytes::from(revision.to_string()),
            create_revision: revision,
            mod_revision: revision,
            lease: 0,
        };
        state.entries.insert(key.to_owned(), entry.clone());
        if tell && let Some((_, watch)) = state.watches.last() {
            let _ = watch.send(Ok(vec![Change::Put(entry)]));
        }
    }

    fn break_watch(&self, error: SourceError) {
        let watch = self.state.lock().unwrap().watches.last().unwrap().1.clone();
        watch.send(Err(error)).unwrap();
    }

    fn lists(&self) -> u32 {
        self.state.lock().unwrap().lists
    }
}

fn unavailable() -> SourceError {
    SourceError::Unavailable("connection refused".into())
}

#[async_trait]
impl Source for Script {
    async fn list(&self) -> Result<Listing, SourceError> {
        let mut state = self.state.lock().unwrap();
        state.lists += 1;
        if state.fail_lists > 0 {
            state.fail_lists -= 1;
            return Err(unavailable());
        }
        Ok(Listing { revision: state.revision, entries: state.entries.values().cloned().collect() })
    }

    async fn watch(&self, after: Revision) -> Result<Changes, SourceError> {
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.fail_watches.pop_front() {
            return Err(error);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        state.watches.push((after, sender));
        Ok(stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
            .boxed())
    }
}

fn start(script: &Arc<Script>) -> (Cache<usize>, Tasks) {
    let clock = Arc::new(TokioClock::starting_at(Timestamp::UNIX_EPOCH));
    let informer =
        Informer::new("test", Arc::clone(script) as Arc<dyn Source>, clock, |entry| entry.value.len());
    let (cache, tasks) = (informer.cache(), Tasks::new());
    tasks.spawn("informer", informer.run(tasks.token()));
    (cache, tasks)
}

async fn until(cache: &Cache<usize>, condition: impl Fn() -> bool) {
    let mut subscription = cache.subscribe();
    while !condition() {
        tokio::time::timeout(Duration::from_secs(3_600), subscription.changed()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn lists_then_watches_from_the_listed_revision() {
    let script = Arc::new(Script::default());
    script.put("/a");
    let (cache, tasks) = start(&script);
    assert!(!cache.is_synced());
    cache.synced().await;
    assert_eq!(cache.len(), 1);
    while cache.stale_since().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(script.state.lock().unwrap().watches[0].0, 1);
    script.put("/b");
    until(&cache, || cache.len() == 2).await;
    assert_eq!((cache.revision(), script.lists()), (2, 1));
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_is_stale_until_it_is_listed_again() {
    let script = Arc::new(Script::default());
    let (cache, tasks) = start(&script);
    cache.synced().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cache.stale_since(), None);
    script.state.lock().unwrap().fail_lists = 3;
    script.put_unheard("/missed");
    script.break_watch(unavailable());
    tokio::time::sleep(Duration::from_millis(40)).await;
    let since = cache.stale_since().unwrap();
    assert_eq!(since.as_second(), 5);
    until(&cache, || cache.len() == 1).await;
    assert_eq!(script.lists(), 5, "the first, three that failed, and the last");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(cache.stale_since(), None);
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_compacted_revision_is_listed_again() {
    let script = Arc::new(Script::default());
    script.state.lock().unwrap().fail_watches.push_back(SourceError::Compacted(0));
    let (cache, tasks) = start(&script);
    cache.synced().await;
    script.put_unheard("/a");
    until(&cache, || cache.len() == 1).await;
    assert_eq!(script.lists(), 2);
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_at_once_do_not_make_a_storm_of_lists() {
    let script = Arc::new(Script::default());
    script.state.lock().unwrap().fail_watches.extend((0..1_000).map(|_| unavailable()));
    let (_, tasks) = start(&script);
    tokio::time::sleep(Duration::from_secs(60)).await;
    // 0.1 s, doubling to 15 s.
    assert!((8..=18).contains(&script.lists()), "{}", script.lists());
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_periodic_listing_repairs_what_the_watch_missed_without_getting_stale() {
    let script = Arc::new(Script::default());
    let (cache, tasks) = start(&script);
    cache.synced().await;
    let mut subscription = cache.subscribe();
    assert_eq!(subscription.changed().await, Changed::Everything);
    script.put_unheard("/missed");
    let changed = tokio::time::timeout(Duration::from_secs(700), subscription.changed()).await.unwrap();
    assert_eq!(changed, Changed::Keys(vec![Arc::from("/missed")]));
    assert_eq!((script.lists(), cache.stale_since()), (2, None));
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_runs_into_the_time_limit() {
    struct Hangs;
    #[async_trait]
    impl Source for Hangs {
        async fn list(&self) -> Result<Listing, SourceError> {
            std::future::pending().await
        }
        async fn watch(&self, _: Revision) -> Result<Changes, SourceError> {
            std::future::pending().await
        }
    }
    let clock = Arc::new(TokioClock::starting_at(Timestamp::UNIX_EPOCH));
    let informer = Informer::new("test", Arc::new(Hangs), clock, |_| ());
    let mut failures = 0;
    let result = informer.list_and_watch(1, &mut failures, &CancellationToken::new()).await;
    assert!(matches!(result, Err(Interrupted::ListTimeout(_))));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_is_reported_and_its_content_ignored() {
    let script = Arc::new(Script::default());
    script.put("/a");
    script.put("/b");
    let (cache, tasks) = start(&script);
    cache.synced().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    {
        let mut state = script.state.lock().unwrap();
        state.entries.clear();
        state.revision = 1;
    }
    script.break_watch(unavailable());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cache.len(), 2);
    assert!(cache.stale_since().is_some());
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}
