//! How far the store was: what tells an etcd that was restored from an older backup, or is another one.
//!
//! A restored etcd has forgotten what was launched since its backup, and which orders were carried out. Whoever
//! believes it deletes what is needed and launches a second time what runs. So the latest [`StoreMark`] that was ever
//! seen is kept in four places, each of which can be lost alone: in this process, in its state file, in a label of
//! each Mesos task, and in the executors, which tell it with their reports. A store that is older has gone back. Then
//! nothing is done to any cluster, and the condition `Stale` says so, until a person accepts the store as it is: by
//! the next number under [`keys::GENERATION`]. Marks of earlier generations count no more. That the revision comes as
//! far again is no acceptance.
//!
//! Nor does it hide anything, as soon as somebody has led the restored store: with each mark goes the term that was the
//! last one then, and the [`History`] of the store tells whether that was so.
//!
//! What is noticed: a store in which something is missing that a controller (by its memory or its state file) or an
//! executor that still runs has read; and one whose record of a cluster counts fewer launches than the number of a task
//! of it that runs. Executors read once a minute, and when the leader tells them.
//!
//! What is not: the loss of what nobody of them saw, such as the last specs that no leader took up; everything, when no
//! state file is left and the store does not know the framework id any more, for then no executor can be asked; what
//! came more than [`overlord_api::KEPT_TERMS`] terms ago; and a store that was written to, before it was led again, until
//! it was further than all that was seen, unless it holds an older info of an executor that still runs. (A controller
//! writes three or four times before it leads: so few lost writes are not noticed by their revision.)
//!
//! etcd's own cluster id and raft term are not asked. A restore with the same flags makes the same ids and terms again
//! (tried with etcd 3.4), and a move to other members by a snapshot that misses nothing is no reason for alarm.

mod marked;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use overlord_api::{History, Sighting, StoreMark, TermId, keys, read_value};
use overlord_store::{Committed, Compare, Error, Fence, Revision, Store, Txn};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::marked::MarkedStore;
use crate::shared::lock;

/// How often a store that went back is looked at, whether it was accepted.
const ACCEPTED_YET: Duration = Duration::from_secs(5);

/// How often the store is looked at without a reason, and the state file written.
const REMEMBER: Duration = Duration::from_secs(60);

/// Before a store that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The line of the state file that says that the store went back and was not accepted yet.
const NOT_ACCEPTED: &str = "went back";

/// The line of the state file with the framework id begins with this.
const FRAMEWORK: &str = "framework ";

/// The line of the state file with the last sighting of the history begins with this.
const TERM: &str = "term ";

/// The store is older than what was seen of it, or was for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WentBack {
    /// The latest that was seen.
    pub(crate) known: StoreMark,
    /// What it was when that was noticed.
    pub(crate) found: StoreMark,
}

impl fmt::Display for WentBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { known, found } = self;
        write!(
            f,
            "etcd went back: it was seen at {known} (generation.revision), and what is at {found} now is another past of \
             it. It was restored from an older backup, or is another etcd. What runs is left alone, and nothing is \
             launched, changed or removed. Restore a newer backup, or accept this one: overlord store accept, which \
             does: etcdctl put {} {}",
            keys::GENERATION,
            known.generation + 1
        )
    }
}

/// The latest mark that a controller knows of. One a process, over all its terms.
#[derive(Debug)]
pub(crate) struct HighWater {
    file: Option<PathBuf>,
    state: Mutex<State>,
    /// Rung when the store may have gone back.
    doubt: Notify,
    /// Counts how often it went back or was accepted.
    turns: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    known: StoreMark,
    /// What others say that they saw, and the store was not asked about yet.
    claimed: StoreMark,
    /// The same with the terms of its history: the latest of each term.
    sightings: BTreeMap<(u64, TermId), Revision>,
    /// The latest generation of which somebody says that the store went back in it.
    told_back: Option<StoreMark>,
    /// What was read of the history last.
    own: Option<Own>,
    /// See [`HighWater::remembers`].
    remembers: bool,
    /// What was seen of the store that went back and never was by what it says, when that was noticed.
    denied: Option<StoreMark>,
    /// The mark of a store that went back, when that was noticed.
    back: Option<StoreMark>,
    framework: Option<String>,
    /// What stands in the file.
    written: String,
}

/// The history as this process saw it.
#[derive(Debug)]
struct Own {
    mark: StoreMark,
    term: TermId,
    /// The whole of it and when it was written; not in a state file.
    read: Option<(History, Revision)>,
}

/// What the store says of itself.
struct Told {
    mark: StoreMark,
    /// The history and when it was written; `None` where it says nothing that can be read.
    history: Option<(History, Revision)>,
    /// Whether there is no history at all.
    never_led: bool,
    /// How far the store was when the history was read.
    at: Revision,
}

impl Told {
    /// Whether it is another store than the one that was seen.
    fn denies(&self, (generation, term): (u64, TermId), revision: Revision) -> bool {
        generation == self.mark.generation
            && match &self.history {
                Some((history, written)) => history.denies(*written, term, revision),
                None => self.never_led,
            }
    }
}

impl State {
    /// From the text of a state file.
    fn parse(text: String) -> Self {
        let mut state = Self::default();
        for line in text.lines().map(str::trim) {
            if line == NOT_ACCEPTED {
                state.back = Some(StoreMark::default());
            } else if let Some(id) = line.strip_prefix(FRAMEWORK) {
                state.framework = Some(id.to_owned());
            } else if let Some((mark, term)) = line.strip_prefix(TERM).and_then(|rest| rest.split_once(' ')) {
                let parsed = mark.parse().ok().zip(term.parse().ok());
                state.own = parsed.map(|(mark, term)| Own { mark, term, read: None });
            } else if let Ok(mark) = line.parse() {
                state.known = mark;
            }
        }
        state.written = text;
        state.remembers = state.own.is_some();
        state
    }

    fn told(&self, found: StoreMark) -> WentBack {
        let denied = self.denied.filter(|mark| mark.generation == self.known.generation);
        WentBack { known: denied.unwrap_or(self.known), found }
    }

    fn text(&self) -> String {
        let framework = self.framework.as_ref().map(|id| format!("{FRAMEWORK}{id}\n")).unwrap_or_default();
        let refused = if self.back.is_some() { format!("{NOT_ACCEPTED}\n") } else { String::new() };
        let term =
            self.own.as_ref().map(|own| format!("{TERM}{} {}\n", own.mark, own.term)).unwrap_or_default();
        format!("{}\n{term}{framework}{refused}", self.known)
    }
}

impl HighWater {
    /// What the state file knows, where there is one.
    pub(crate) fn new(file: Option<PathBuf>) -> Arc<Self> {
        let state = match file.as_deref().map(std::fs::read_to_string) {
            Some(Ok(text)) => State::parse(text),
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = ?file, "the state file cannot be read");
                State::default()
            }
            _ => State::default(),
        };
        Arc::new(Self { file, state: Mutex::new(state), doubt: Notify::new(), turns: watch::Sender::new(0) })
    }

    /// The store as of the last look, when it went back and nobody accepted it.
    pub(crate) fn went_back(&self) -> Option<WentBack> {
        let state = lock(&self.state);
        state.back.map(|found| state.told(found))
    }

    /// How often the store went back or was accepted, from now on and later.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// The mark of something that was written at `revision`.
    pub(crate) fn mark_of(&self, revision: Revision) -> StoreMark {
        StoreMark { generation: lock(&self.state).known.generation, revision }
    }

    /// Whether this process knew the store before it began to lead, from its state file or as a standby.
    pub(crate) fn remembers(&self) -> bool {
        lock(&self.state).remembers
    }

    /// Somebody saw this of the store. What is not known here yet is asked of the store itself.
    pub(crate) fn heard(&self, seen: Sighting) {
        let mut state = lock(&self.state);
        let Sighting { mark, term, went_back } = seen;
        if mark.generation < state.known.generation {
            return;
        }
        let mut news = mark > state.known.max(state.claimed);
        if news {
            state.claimed = mark;
        }
        if went_back && state.back.is_none() && state.told_back.is_none_or(|told| told < mark) {
            state.told_back = Some(mark);
            news = true;
        }
        let read = state.own.as_ref().and_then(|own| own.read.as_ref());
        if let Some(term) = term
            && !read.is_some_and(|(history, written)| history.confirms(*written, term, mark.revision))
        {
            let latest = state.sightings.entry((mark.generation, term)).or_default();
            news |= *latest < mark.revision;
            *latest = mark.revision.max(*latest);
        }
        if news {
            self.doubt.notify_one();
        }
    }

    /// The store has surely forgotten something of this generation.
    pub(crate) fn forgot(&self) {
        let seen = lock(&self.state).known;
        self.heard(Sighting { mark: seen, term: None, went_back: true });
    }

    /// The framework id that this controller subscribed with last.
    pub(crate) fn framework(&self) -> Option<String> {
        lock(&self.state).framework.clone()
    }

    /// Keeps the framework id beside the mark: a store that went back far enough does not know it.
    pub(crate) fn subscribed(&self, framework: &str) {
        lock(&self.state).framework = Some(framework.to_owned());
        self.remember();
    }

    /// Asks the store how far it is, which generation, and by whom it was led, and settles what that means.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<Option<WentBack>, Error> {
        // What is seen while this is on its way may be later than its answer.
        let (before, sightings, told_back, own) = {
            let mut state = lock(&self.state);
            let claimed = std::mem::take(&mut state.claimed);
            let own = state.own.as_ref().map(|own| ((own.mark.generation, own.term), own.mark.revision));
            (state.known.max(claimed), std::mem::take(&mut state.sightings), state.told_back.take(), own)
        };
        let told = match ask(store).await {
            Ok(told) => told,
            Err(error) => {
                let mut state = lock(&self.state);
                state.claimed = state.claimed.max(before);
                state.told_back = state.told_back.max(told_back);
                for (of, revision) in sightings {
                    let latest = state.sightings.entry(of).or_default();
                    *latest = revision.max(*latest);
                }
                return Err(error);
            }
        };
        let denied = sightings.into_iter().chain(own).filter(|(of, revision)| told.denies(*of, *revision));
        let denied = denied.map(|((generation, _), revision)| StoreMark { generation, revision });
        let denied = denied.chain(told_back.filter(|mark| mark.generation >= told.mark.generation)).max();
        self.settle(before, denied, told);
        Ok(self.went_back())
    }

    /// The same, until the store answers.
    pub(crate) async fn check_until_answered(&self, store: &dyn Store) -> Result<Option<WentBack>, Error> {
        loop {
            match self.check(store).await {
                Err(error @ (Error::Denied(_) | Error::BadEndpoint { .. })) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "how far the store is, is not known yet");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Ok(went_back) => return Ok(went_back),
            }
        }
    }

    /// The store says this of itself, as asked when `before` was the latest that was known, and when `denied` was seen
    /// of it, which never was by what it says.
    fn settle(&self, before: StoreMark, denied: Option<StoreMark>, told: Told) {
        let found = told.mark;
        let mut state = lock(&self.state);
        let was = state.back;
        let doubted = before > found || denied.is_some();
        state.back = match was {
            Some(_) if found.generation > before.generation => None,
            Some(first) => Some(if first == StoreMark::default() { found } else { first }),
            None => doubted.then_some(found),
        };
        if was.is_none() {
            state.denied = denied;
        }
        if state.back.is_none() {
            state.denied = None;
            state.own = told.history.and_then(|(history, written)| {
                let term = history.last()?.id;
                let mark = StoreMark { revision: told.at, ..found };
                Some(Own { mark, term, read: Some((history, written)) })
            });
        }
        state.known = state.known.max(if state.back.is_some() { before } else { found });
        let turned = was.is_some() != state.back.is_some();
        let told = state.back.map(|found| state.told(found));
        drop(state);
        if !turned {
            return;
        }
        if let Some(went_back) = told {
            tracing::error!("{went_back}");
        } else {
            tracing::warn!(store = %found, "this etcd was accepted by a person: going on with it");
        }
        self.remember();
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// Appends a term to the store's history, before anything else is done in it. Nothing is added to a store that went
    /// back: what was seen of it must not look forgotten.
    pub(crate) async fn begin_term(&self, store: &dyn Store, fence: &Fence, id: TermId) -> Result<(), Error> {
        loop {
            match self.begin_term_once(store, fence, id).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error @ (Error::Denied(_) | Error::Fenced(_) | Error::BadEndpoint { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(%error, "the term is not in the store's history yet");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Whether it is there, or is not to be.
    async fn begin_term_once(&self, store: &dyn Store, fence: &Fence, id: TermId) -> Result<bool, Error> {
        if self.went_back().is_some() {
            return Ok(true);
        }
        let listing = store.get(keys::HISTORY).await?;
        let entry = listing.entries.first();
        let history = match entry.map(|entry| read_value::<History>(&entry.value)) {
            None => History::new(true),
            Some(Ok(history)) => history,
            Some(Err(why)) if why.is_newer() => {
                tracing::warn!(key = keys::HISTORY, %why, "this term is not told in it");
                return Ok(true);
            }
            Some(Err(why)) => {
                tracing::error!(key = keys::HISTORY, %why, "cannot be read, and is begun anew");
                History::new(false)
            }
        };
        // The commit before may have had no answer.
        if history.last().is_some_and(|last| last.id == id) {
            return Ok(true);
        }
        let generation = lock(&self.state).known.generation;
        let next = history.with(id, generation, entry.map_or(0, |entry| entry.mod_revision));
        let seen = match entry {
            Some(entry) => Compare::ModRevision(keys::HISTORY.to_owned(), entry.mod_revision),
            None => Compare::Absent(keys::HISTORY.to_owned()),
        };
        // A struct of numbers and texts always serializes.
        let value = serde_json::to_vec(&next).unwrap_or_default();
        let txn = Txn::fenced(fence).when(seen).put(keys::HISTORY, value);
        let Committed::Yes(revision) = store.commit(txn).await? else { return Ok(false) };
        let mark = StoreMark { generation, revision };
        lock(&self.state).own = Some(Own { mark, term: id, read: Some((next, revision)) });
        Ok(true)
    }

    /// A linearizable answer of the store that was asked for when `floor` was known.
    fn answered(&self, floor: Revision, revision: Revision) {
        let mut state = lock(&self.state);
        if state.back.is_some() {
            return;
        }
        state.known.revision = state.known.revision.max(revision);
        if revision < floor {
            self.doubt.notify_one();
        }
    }

    fn floor(&self) -> Revision {
        lock(&self.state).known.revision
    }

    /// Writes the state file when there is news; a failure costs the check after the next start, nothing else.
    fn remember(&self) {
        let Some(file) = &self.file else { return };
        let mut state = lock(&self.state);
        let text = state.text();
        if text == state.written {
            return;
        }
        let fresh = file.with_extension("new");
        match std::fs::write(&fresh, &text).and_then(|()| std::fs::rename(&fresh, file)) {
            Ok(()) => state.written = text,
            Err(error) => tracing::warn!(file = %file.display(), %error, "high-water mark not written"),
        }
    }

    /// Looks when there is doubt, and whether a store that went back was accepted; until `shutdown`.
    pub(crate) async fn run(&self, store: &dyn Store, shutdown: &CancellationToken) {
        loop {
            let back = self.went_back().is_some();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.doubt.notified() => {}
                () = tokio::time::sleep(if back { ACCEPTED_YET } else { REMEMBER }) => {}
            }
            lock(&self.state).remembers |= !back;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                checked = self.check_until_answered(store) => if let Err(error) = checked {
                    tracing::warn!(%error, "how far the store is cannot be asked");
                    tokio::time::sleep(ASK_AGAIN).await;
                },
            }
            self.remember();
        }
        self.remember();
    }
}

/// What the store says of itself.
async fn ask(store: &dyn Store) -> Result<Told, Error> {
    let listing = store.get(keys::GENERATION).await?;
    let generation = match listing.entries.first() {
        None => 0,
        Some(entry) => String::from_utf8_lossy(&entry.value).trim().parse().unwrap_or_else(|_| {
            let key = keys::GENERATION;
            tracing::error!(key, value = ?entry.value, "is no number, and counts as 0");
            0
        }),
    };
    let mark = StoreMark { generation, revision: listing.revision };
    let listing = store.get(keys::HISTORY).await?;
    let entry = listing.entries.first();
    let history = entry.and_then(|entry| Some((read_value(&entry.value).ok()?, entry.mod_revision)));
    Ok(Told { mark, history, never_led: entry.is_none(), at: listing.revision })
}

#[cfg(test)]
mod tests;
