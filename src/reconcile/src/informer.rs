//! Keeps a [`Cache`] equal to a [`Source`]: list, then watch from the list's revision; list again when the
//! watch breaks, when its revision is compacted, and now and then as a belt.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::{
    Backoff, Cache, Clock, Entry, Revision, Source, SourceError, WentBack, backoff::jittered, report::Report,
};

/// How an [`Informer`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InformerOptions {
    /// How often everything is listed again although nothing seems wrong, give or take a tenth.
    pub relist: Duration,
    /// How long a listing, or opening a watch, may take.
    pub timeout: Duration,
    /// Waits between failed attempts.
    pub backoff: Backoff,
}

impl Default for InformerOptions {
    fn default() -> Self {
        Self {
            relist: Duration::from_secs(600),
            timeout: Duration::from_secs(60),
            backoff: Backoff::CONNECTIONS,
        }
    }
}

/// A watch that lived this long has worked, even if nothing changed.
const HEALTHY: Duration = Duration::from_secs(60);

/// Lists and watches a source into a cache.
pub struct Informer<T> {
    name: Arc<str>,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    cache: Cache<T>,
    options: InformerOptions,
}

/// Why a pass of listing and watching ended.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("listing failed")]
    List(#[source] SourceError),
    #[error("listing took longer than {0:?}")]
    ListTimeout(Duration),
    #[error("listing refused")]
    WentBack(#[source] WentBack),
    #[error("opening the watch failed")]
    Open(#[source] SourceError),
    #[error("opening the watch took longer than {0:?}")]
    OpenTimeout(Duration),
    #[error("the watch broke")]
    Broken(#[source] SourceError),
    #[error("the watch ended")]
    Ended,
}

/// A pass that ended well.
enum Ended {
    RelistDue,
    Shutdown,
}

impl<T: Send + Sync + 'static> Informer<T> {
    /// An informer that holds `project(entry)` of each entry of `source`. Nothing is read before
    /// [`Informer::run`].
    pub fn new(
        name: impl Into<Arc<str>>,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
        project: impl Fn(&Entry) -> T + Send + Sync + 'static,
    ) -> Self {
        let cache = Cache::new(project);
        Self { name: name.into(), source, clock, cache, options: InformerOptions::default() }
    }

    /// Other options than the default ones.
    #[must_use]
    pub fn options(mut self, options: InformerOptions) -> Self {
        self.options = options;
        self
    }

    /// The view that this informer fills.
    pub fn cache(&self) -> Cache<T> {
        self.cache.clone()
    }

    /// Runs until `shutdown`. Errors are logged and retried; [`Cache::stale_since`] shows them.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut failures = 0;
        let mut pass = 0_u64;
        self.cache.set_stale(Some(self.clock.now()));
        loop {
            pass += 1;
            let interrupted = match self.list_and_watch(pass, &mut failures, &shutdown).await {
                Ok(Ended::Shutdown) => return,
                Ok(Ended::RelistDue) => continue,
                Err(interrupted) => interrupted,
            };
            self.cache.set_stale(Some(self.clock.now()));
            failures += 1;
            let wait = self.options.backoff.delay(&(&self.name, pass), failures);
            tracing::warn!(
                informer = %self.name,
                error = %Report(&interrupted),
                failures,
                retry_in = ?wait,
                "the view is not being updated"
            );
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn list_and_watch(
        &self,
        pass: u64,
        failures: &mut u32,
        shutdown: &CancellationToken,
    ) -> Result<Ended, Interrupted> {
        let open = async {
            let limit = self.options.timeout;
            let listing = tokio::time::timeout(limit, self.source.list())
                .await
                .map_err(|_| Interrupted::ListTimeout(limit))?
                .map_err(Interrupted::List)?;
            let (revision, entries) = (listing.revision, listing.entries.len());
            self.cache.replace(listing).map_err(Interrupted::WentBack)?;
            tracing::debug!(informer = %self.name, revision, entries, "listed");
            self.open(revision).await
        };
        let mut changes = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(Ended::Shutdown),
            opened = open => opened?,
        };
        self.cache.set_stale(None);
        if *failures > 0 {
            tracing::info!(informer = %self.name, failures = *failures, "the view is being updated again");
        }
        let opened = self.clock.monotonic();
        let relist = tokio::time::sleep(jittered(self.options.relist, &(&self.name, pass)));
        tokio::pin!(relist);
        let interrupted = loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
                () = &mut relist => {
                    *failures = 0;
                    return Ok(Ended::RelistDue);
                }
                batch = changes.next() => match batch {
                    Some(Ok(batch)) => {
                        *failures = 0;
                        self.cache.apply(batch);
                    }
                    Some(Err(error)) => break Interrupted::Broken(error),
                    None => break Interrupted::Ended,
                },
            }
        };
        // Only a watch that worked ends the back-off: one that opens and breaks at once does not.
        if self.clock.monotonic().saturating_sub(opened) >= HEALTHY {
            *failures = 0;
        }
        Err(interrupted)
    }

    async fn open(&self, after: Revision) -> Result<crate::Changes, Interrupted> {
        let limit = self.options.timeout;
        tokio::time::timeout(limit, self.source.watch(after))
            .await
            .map_err(|_| Interrupted::OpenTimeout(limit))?
            .map_err(Interrupted::Open)
    }
}

impl<T> std::fmt::Debug for Informer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informer")
            .field("name", &self.name)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
