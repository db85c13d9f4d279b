//! A watch that outlives its connection: opened again after the last revision it has delivered.

use std::{sync::Arc, time::Duration};

use backoff::{ExponentialBackoff, backoff::Backoff as _};
use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use futures::{StreamExt as _, stream};
use overlord_reconcile::SourceError;
use tokio::time::sleep;
use tracing::debug;

use super::{
    endpoints::{Endpoints, Repeat, reconnect_pauses},
    failure::{Failure, Refusal},
    wire,
};
use crate::{Change, Changes, Error, Revision};

/// A watch that cannot be opened again for this long ends, so that its reader knows that it is blind.
const MAX_BLINDNESS: Duration = Duration::from_mins(1);

/// An open watch, and the answer to its opening.
struct Open {
    stream: WatchStream,
    first: Option<WatchResponse>,
}

struct Watch {
    endpoints: Arc<Endpoints>,
    prefix: Arc<str>,
    /// Everything up to this revision is delivered.
    after: Revision,
    open: Option<Open>,
    pauses: ExponentialBackoff,
    ended: bool,
}

/// Opens a watch of the keys with the prefix.
pub(super) async fn open(endpoints: Arc<Endpoints>, prefix: &str, after: Revision) -> Result<Changes, Error> {
    let prefix: Arc<str> = prefix.into();
    let open = match connect(&endpoints, &prefix, after).await {
        Ok(open) => open,
        Err(Refusal::Compacted) => return Err(Error::Compacted(after + 1)),
        Err(refusal) => return Err(refusal.into_error()),
    };
    let pauses = reconnect_pauses(Some(MAX_BLINDNESS));
    let watch = Watch { endpoints, prefix, after, open: Some(open), pauses, ended: false };
    Ok(stream::unfold(watch, |mut watch| async move { watch.next().await.map(|item| (item, watch)) }).boxed())
}

async fn connect(endpoints: &Endpoints, prefix: &Arc<str>, after: Revision) -> Result<Open, Refusal> {
    let open = endpoints
        .call("watch", Repeat::Harmless, |mut clients| {
            let key = wire::prefix_start(prefix.as_bytes());
            // Not in fragments: the client does not show where one ends, and a transaction must stay whole.
            let options = WatchOptions::new()
                .with_range(wire::prefix_end(prefix.as_bytes()))
                .with_start_revision(after + 1);
            async move {
                let mut stream = clients.watch.watch(key, Some(options)).await?;
                // Only an answered watch is known to be open.
                let first = stream.message().await?;
                Ok(Open { stream, first })
            }
        })
        .await?;
    // etcd lets a watch wait in silence for revisions that are long past here. A member may lag behind, so
    // that its word alone is not enough.
    let header = open.first.as_ref().and_then(|first| first.header());
    if header.is_some_and(|header| header.revision() < after) {
        let found = endpoints.revision().await?;
        if found < after {
            return Err(Refusal::Error(Error::WentBack { known: after, found }));
        }
    }
    Ok(open)
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Vec<Change>, SourceError>> {
        while !self.ended {
            let Some(open) = &mut self.open else {
                if let Err(error) = self.reopen().await {
                    return Some(Err(self.end(error)));
                }
                continue;
            };
            let answer = match open.first.take() {
                Some(first) => Ok(Some(first)),
                None => open.stream.message().await,
            };
            match answer {
                Ok(Some(response)) => match self.read(&response) {
                    Ok(changes) if changes.is_empty() => {}
                    Ok(changes) => return Some(Ok(changes)),
                    Err(error) => return Some(Err(self.end(error))),
                },
                Ok(None) => self.lose("closed by the server"),
                Err(error) => match Failure::of(&error) {
                    Failure::Unapplied(message) | Failure::Ambiguous(message) => self.lose(&message),
                    Failure::Refused(Refusal::Compacted) => {
                        let error = Error::Compacted(self.after + 1);
                        return Some(Err(self.end(error)));
                    }
                    // Asking for the same again would have the same end; a new listing comes in pages.
                    Failure::Refused(refusal) => return Some(Err(self.end(refusal.into_error()))),
                },
            }
        }
        None
    }

    /// The changes of one response: whole transactions, since etcd sends all events of a revision together.
    fn read(&mut self, response: &WatchResponse) -> Result<Vec<Change>, Error> {
        // etcd 3.4 gives no reason when it cancels because of compaction.
        if response.compact_revision() > 0 {
            return Err(Error::Compacted(self.after + 1));
        }
        if response.canceled() {
            return Err(match response.cancel_reason() {
                reason if reason.contains("permission denied") => Error::Denied(reason.to_owned()),
                reason => Error::Other(format!("watch cancelled: {reason}")),
            });
        }
        let after = self.after;
        let changes: Vec<Change> = response
            .events()
            .iter()
            .filter_map(wire::change)
            .filter(|change| wire::revision_of(change) > after)
            .collect();
        if let Some(last) = changes.last() {
            self.after = wire::revision_of(last);
            self.pauses.reset();
        }
        Ok(changes)
    }

    async fn reopen(&mut self) -> Result<(), Error> {
        loop {
            let Some(pause) = self.pauses.next_backoff() else {
                return Err(Error::Unavailable {
                    endpoints: self.endpoints.to_string(),
                    message: format!("watch could not be opened again within {MAX_BLINDNESS:?}"),
                });
            };
            sleep(pause).await;
            match connect(&self.endpoints, &self.prefix, self.after).await {
                Ok(open) => {
                    debug!(prefix = &*self.prefix, after = self.after, "etcd watch opened again");
                    self.open = Some(open);
                    return Ok(());
                }
                Err(Refusal::Compacted) => return Err(Error::Compacted(self.after + 1)),
                Err(Refusal::Error(Error::Unavailable { message, .. })) => {
                    debug!(prefix = &*self.prefix, error = message, "etcd watch not opened yet");
                }
                Err(refusal) => return Err(refusal.into_error()),
            }
        }
    }

    fn lose(&mut self, message: &str) {
        debug!(prefix = &*self.prefix, after = self.after, error = message, "etcd watch lost");
        self.open = None;
    }

    fn end(&mut self, error: Error) -> SourceError {
        self.ended = true;
        self.open = None;
        error.into()
    }
}
