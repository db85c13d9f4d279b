//! Values of the leader's own that others edited into nonsense or deleted. Each is named in an event, with what is
//! wrong and what becomes of it:
//!
//! | key | the truth is in | damaged or deleted while a leader leads | found damaged by a new leader |
//! | --- | --- | --- | --- |
//! | `config/<c>` | people | condition `Accepted` is false with line and column, the last revision goes on; deleted: see `admit` | the same |
//! | `record` | the leader's memory; infos and revisions | put back as it was written last | damaged: nothing is done to the cluster until a person mends it; gone: made again from the infos |
//! | `info` | the leader's memory; Mesos and the executor | put back, and Mesos is asked | made again when Mesos runs its task and the executor says where it is (`adopt`); until then nothing is launched |
//! | `server.conf` | the accepted spec | written again, under the next number | the same |
//! | `nodes.conf` | redis' own file on the agent | named; a seed that served is not read again | not noticed |
//! | `revisions/<n>` | the leader's memory; `config/<c>` | the accepted one is put back, an older one is named | made again from `config/<c>`; else nothing is done until a person mends it |
//! | `status`, `endpoints` | everything else | written anew | the same |
//! | `task/<id>` | people | its status names what is wrong; after ten minutes it has failed | the same |
//! | `task/<id>/status` | the leader's memory; the plan | put back | deploy and update: made again; others have failed, as nobody knows whether they were done |
//! | `quarantine/<a>` | nowhere | named; the address is not used until the key is removed | the same |
//! | `framework` | records, Mesos | put right | the same |
//! | `leader` | the lease | deleted: the term ends, and another begins | – |
//! | `events/*` | nowhere | counted from one again | skipped |
//!
//! A value of a newer version is named, and neither overwritten nor acted on. Whatever is wrong with one cluster's
//! values costs the others nothing; and no instance is ended because of a value that cannot be read.

use overlord_api::{EventLevel, Revision, Unreadable, VALUES_VERSION, keys};
use overlord_mesos::v1::{AgentId, TaskId};

use super::{Error, Pass};
use crate::{
    Happening,
    ledger::{Batch, Expect},
    memory::Good,
    tasks::Request,
};

/// What is said of a value that is put back.
const PUT_BACK: &str = "is put back as the leader wrote it last";

/// Operations in one transaction.
const AT_ONCE: usize = 100;

/// A value that somebody else took away.
struct Loss {
    key: String,
    good: Good,
    why: String,
    expect: Expect,
}

impl Pass<'_> {
    /// Puts back what the leader wrote and others took away, before anything is decided from what is left.
    pub(super) async fn mend(&self) -> Result<(), Error> {
        let memory = &self.shared.ledger.memory;
        let mut batch = Batch::default();
        let mut told: Vec<(String, String, &str)> = Vec::new();
        for Loss { key, good, why, expect } in self.losses() {
            let done = match good {
                Good::Record(record) => {
                    batch.put_json(key.clone(), &*record, expect);
                    PUT_BACK
                }
                Good::Info(info) => {
                    batch.put_json(key.clone(), &*info, expect);
                    // What is remembered is an intent; how it is by now Mesos knows.
                    let (task, agent) = (TaskId::new(&info.mesos_task_id), AgentId::new(&info.agent_id));
                    self.shared.sync.ask(self.shared.clock.monotonic(), task, Some(agent));
                    PUT_BACK
                }
                Good::Task(status) => {
                    batch.put_json(key.clone(), &*status, expect);
                    PUT_BACK
                }
                Good::Conf(_) => {
                    memory.forget(&key);
                    if key.ends_with("/nodes.conf") {
                        "was the seed of a start that is over, and is not read again: redis keeps its own file"
                    } else {
                        "is written again from the accepted spec"
                    }
                }
                Good::Derived => {
                    memory.forget(&key);
                    match self.lost_revision(&key) {
                        Some(revision) => {
                            batch.put_json(key.clone(), &revision, expect);
                            "is put back as it was accepted"
                        }
                        None if key.contains("/revisions/") => "was history only: undo and diff miss it",
                        None => "is written anew",
                    }
                }
            };
            told.push((key, why, done));
            if batch.operations() >= AT_ONCE {
                self.shared
                    .ledger
                    .commit(std::mem::take(&mut batch))
                    .await
                    .map_err(|source| self.error(source))?;
            }
        }
        if !batch.is_empty() {
            self.shared.ledger.commit(batch).await.map_err(|source| self.error(source))?;
        }
        for (key, why, done) in told {
            self.tell_value(&key, "ValueRestored", format!("{key} {done}: {why}"));
        }
        Ok(())
    }

    /// What this cluster lost, without what a newer build wrote.
    fn losses(&self) -> Vec<Loss> {
        let ledger = &self.shared.ledger;
        let mut losses = Vec::new();
        for (key, good) in ledger.memory.lost(&keys::cluster(self.cluster)) {
            let (seen, why) = (ledger.clusters.get(&key), ledger.unreadable(&key));
            let why = match (&seen, why) {
                (_, Some(Unreadable::Newer(_))) => continue,
                (_, Some(why)) => why.to_string(),
                (None, None) => String::from("it was deleted"),
                (Some(_), None) if matches!(good, Good::Conf(_)) => String::from("it was edited"),
                (Some(_), None) => String::from("it was another cluster's or another instance's"),
            };
            let expect = Expect::seen(seen.map(|seen| seen.mod_revision));
            losses.push(Loss { key, good, why, expect });
        }
        for (key, good) in ledger.memory.lost(keys::TASK) {
            let id = key.strip_prefix(keys::TASK).and_then(|rest| rest.strip_suffix("/status"));
            let ours = id.is_some_and(|id| ledger.requests.of(self.cluster).iter().any(|of| of == id));
            if !ours {
                continue;
            }
            let (revision, why) = ledger.unreadable_task(&key);
            if why.as_ref().is_some_and(Unreadable::is_newer) {
                continue;
            }
            let why = why.map_or_else(|| String::from("it was deleted"), |why| why.to_string());
            losses.push(Loss { key, good, why, expect: Expect::seen(revision) });
        }
        losses
    }

    /// The accepted revision, when it is the one of this key.
    fn lost_revision(&self, key: &str) -> Option<Revision> {
        // It may be lost as well, and is put back with it.
        let Some(Good::Record(record)) = self.shared.ledger.memory.get(&keys::record(self.cluster)) else {
            return None;
        };
        let (uid, n, cluster) = self.shared.memo(self.cluster, |memo| memo.spec.clone())?;
        let accepted = uid == record.uid && n == record.revision && key == keys::revision(self.cluster, n);
        accepted.then(|| Revision {
            version: VALUES_VERSION,
            revision: n,
            config_revision: record.config_revision,
            // When it really was is lost.
            accepted_at: self.shared.clock.now(),
            manifest: cluster.to_yaml(),
        })
    }

    /// Infos that are left alone as they are, each named.
    pub(super) fn report_damaged(&self, damaged: &[(String, String)]) {
        for (key, why) in damaged {
            self.tell_value(key, "DamagedValue", format!("{key} is left alone: {why}"));
        }
        // What was mended is news when it breaks again.
        self.shared.memo(self.cluster, |memo| {
            memo.damaged.retain(|(reason, key), _| {
                *reason != "DamagedValue"
                    || !key.ends_with("/info")
                    || damaged.iter().any(|(damaged, _)| damaged == key)
            });
        });
    }

    /// Requests whose status cannot be read.
    pub(super) fn report_requests(&self, requests: &[Request]) {
        for request in requests {
            if let Some(why) = &request.unreadable {
                let key = keys::task_status(&request.id);
                self.tell_value(&key, "DamagedValue", format!("{key}: {why}"));
            }
        }
    }

    /// A value that is made from others cannot be read; whether it may be overwritten.
    pub(super) fn may_write_anew(&self, key: &str) -> bool {
        match self.shared.ledger.unreadable(key) {
            None => true,
            Some(why @ Unreadable::Newer(_)) => {
                self.tell_value(key, "DamagedValue", format!("{key}: {why}"));
                false
            }
            Some(why) => {
                self.tell_value(key, "ValueRestored", format!("{key} is written anew: {why}"));
                true
            }
        }
    }

    /// Tells of a key, once as long as the same is to be said.
    pub(super) fn tell_value(&self, key: &str, reason: &'static str, message: String) {
        let ledger = &self.shared.ledger;
        let seen = ledger.clusters.get(key).map(|seen| seen.mod_revision);
        let seen = seen.or_else(|| ledger.tasks.get(key).map(|seen| seen.mod_revision));
        let told = self.shared.memo(self.cluster, |memo| {
            let news = (seen, message.clone());
            let before = memo.damaged.insert((reason, key.to_owned()), news.clone());
            before == Some(news)
        });
        if told {
            return;
        }
        let folder = keys::cluster(self.cluster);
        let object = key.strip_prefix(&folder).or_else(|| key.strip_prefix(keys::ROOT)).unwrap_or(key);
        let object = object.to_owned();
        let what = Happening { object, reason, level: EventLevel::Warning, message };
        self.shared.events.record(self.cluster.as_str(), what);
    }
}
