//! A listing in pages of one moment, for prefixes that are too large to be held at once.

use std::sync::Arc;

use etcd_client::GetOptions;

use super::{Endpoints, failure::Refusal, revision_of, wire};
use crate::{Entry, Error, Fetch, Revision};

/// Keys per page.
const PAGE: i64 = 500;

/// The pages of a listing, in key order. All are of the moment of the first one.
#[derive(Debug)]
pub struct Pages {
    endpoints: Arc<Endpoints>,
    fetch: Fetch,
    /// Where the next page begins; `None` after the last one.
    start: Option<Vec<u8>>,
    end: Vec<u8>,
    page: i64,
    revision: Revision,
}

impl Pages {
    pub(super) fn new(endpoints: Arc<Endpoints>, prefix: &str, fetch: Fetch) -> Self {
        let start = Some(wire::prefix_start(prefix.as_bytes()));
        let end = wire::prefix_end(prefix.as_bytes());
        Self { endpoints, fetch, start, end, page: PAGE, revision: 0 }
    }

    /// The store's revision at that moment; 0 before the first page.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The next page; `None` when all were given. An error does not end it: the same page may be asked for again.
    /// [`Error::Compacted`]: the moment is forgotten, begin anew.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        loop {
            let Some(start) = &self.start else { return Ok(None) };
            // The first page is of now (revision 0).
            let mut options = GetOptions::new().with_limit(self.page).with_revision(self.revision);
            if self.fetch == Fetch::KeysOnly {
                options = options.with_keys_only();
            }
            let mut answer = match self.endpoints.range(start, &self.end, &options).await {
                Ok(answer) => answer,
                Err(Refusal::AnswerTooLarge) if self.page > 1 => {
                    self.page = (self.page / 8).max(1);
                    continue;
                }
                Err(Refusal::Compacted) => return Err(Error::Compacted(self.revision)),
                // A page of a moment that etcd knew: it was replaced by an older one since.
                Err(Refusal::Future) => {
                    let found = self.endpoints.revision().await.map_err(Refusal::into_error)?;
                    return Err(Error::WentBack { known: self.revision, found });
                }
                Err(refusal) => return Err(refusal.into_error()),
            };
            if self.revision == 0 {
                self.revision = revision_of(&answer);
            }
            let kvs = answer.take_kvs();
            let last = kvs.last().map(|kv| wire::successor(kv.key()));
            self.start = last.filter(|_| answer.more());
            return Ok(Some(kvs.into_iter().map(wire::entry).collect()));
        }
    }
}
