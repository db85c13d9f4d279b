//! The stream of one watcher of the in-memory store.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use overlord_reconcile::SourceError;
use tokio::time::sleep;

use super::{Shared, state::Look};
use crate::{Change, Changes, Error};

/// An open watcher; closed when dropped.
struct Watch {
    shared: Arc<Shared>,
    id: u64,
    ended: bool,
}

pub(super) fn stream(shared: Arc<Shared>, id: u64) -> Changes {
    let watch = Watch { shared, id, ended: false };
    stream::unfold(watch, |mut watch| async move { watch.next().await.map(|item| (item, watch)) }).boxed()
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Vec<Change>, SourceError>> {
        if self.ended {
            return None;
        }
        let bell = self.shared.now_state().bell(self.id)?;
        loop {
            let look = self.shared.now_state().look(self.id);
            let next_end = match look {
                Look::Changes(changes) => return Some(Ok(changes)),
                Look::Compacted(revision) => {
                    self.ended = true;
                    return Some(Err(SourceError::Compacted(revision)));
                }
                Look::WentBack { known, found } => {
                    self.ended = true;
                    return Some(Err(Error::WentBack { known, found }.into()));
                }
                Look::Nothing(next_end) => next_end,
            };
            match next_end {
                None => bell.notified().await,
                // A lease that ends is seen when somebody looks: so look then.
                Some(end) => {
                    let pause =
                        end.saturating_sub(self.shared.clock.monotonic()).max(Duration::from_millis(1));
                    tokio::select! {
                        biased;
                        () = bell.notified() => {}
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.now_state().close_watch(self.id);
    }
}
