//! Expectations: looked at until they hold, or until it is too late.

use std::{collections::BTreeSet, time::Duration};

use overlord_api::{Truth, keys};
use overlord_engines::cluster::NodeId;

use super::{
    command::Expect,
    play::{Player, cluster, task_id},
    words::is_like,
};
use crate::view::View;

/// Between two looks: at first, and when it takes longer than [`SOON`].
const LOOK: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(30);
const LATE_LOOK: Duration = Duration::from_secs(2);

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Player<'_> {
    /// Waits until it holds, for `within` at most.
    pub(super) async fn await_it(&mut self, expect: &Expect, within: Duration) -> Result<(), String> {
        let begun = self.world.trace.now();
        loop {
            let view = self.world.view().await;
            let Err(why) = self.holds(expect, &view) else { return Ok(()) };
            if self.world.trace.now().saturating_sub(begun) >= within {
                return Err(if within.is_zero() { why } else { format!("{why}, after {within:?} still") });
            }
            let waited = self.world.trace.now().saturating_sub(begun);
            self.pass(if waited < SOON { LOOK } else { LATE_LOOK }).await?;
        }
    }

    /// What is in place of what is expected.
    #[expect(clippy::too_many_lines, reason = "one arm an expectation: read as a table")]
    fn holds(&self, expect: &Expect, view: &View) -> Result<(), String> {
        match expect {
            Expect::Phase(name, wanted) => {
                is_news(view, name)?;
                let phase = view.status(&cluster(name)?).map(|status| status.phase.to_string());
                must(phase.as_ref() == Some(wanted), || {
                    format!("the phase is {}", phase.as_deref().unwrap_or("unknown"))
                })
            }
            Expect::Condition { name, cluster: of, truth, reason, message } => {
                condition(view, of, name, truth, reason.as_deref(), message.as_deref())
            }
            Expect::State(name, member, wanted) => {
                let infos = view.infos();
                let own = infos.iter().find(|(of, info)| of.as_str() == name && info.member == *member);
                let state =
                    own.map_or_else(|| "absent".to_owned(), |(_, info)| info.observed.state.to_string());
                must(state == *wanted, || format!("{name}/{member} is {state}"))
            }
            Expect::Processes(number, name) => {
                let serving = self.processes(name).iter().filter(|seen| seen.serving).count();
                let all = self.processes(name).len();
                must(serving == *number as usize && all == serving, || {
                    format!("{all} processes of {name} live, {serving} serve")
                })
            }
            Expect::Endpoints(number, name) => {
                let listed = view.endpoints(&cluster(name)?).map_or(0, |list| list.endpoints.len());
                must(listed == *number as usize, || format!("{listed} endpoints of {name} are published"))
            }
            Expect::Hosts(number, name) => {
                let hosts: BTreeSet<_> =
                    self.processes(name).iter().map(|seen| seen.instance.address.ip).collect();
                must(hosts.len() == *number as usize, || format!("{name} is on the hosts {hosts:?}"))
            }
            Expect::Whole(name) => {
                let pool = self.nodes_of(name).ok_or_else(|| format!("{name} is no cluster of nodes"))?;
                let mut missing = Vec::new();
                crate::cluster::missing(&self.world.hosts, view, &pool, &mut missing);
                must(missing.is_empty(), || missing.join("; "))
            }
            Expect::Knows(name) => {
                let nodes = crate::cluster::nodes(&self.world.hosts);
                let own: Vec<_> = self
                    .processes(name)
                    .iter()
                    .filter_map(|seen| nodes.get(&seen.instance.address))
                    .collect();
                let is_own = |id: &NodeId| own.iter().any(|node| node.id == *id);
                let stranger = own.iter().find_map(|node| node.knows.iter().find(|id| !is_own(id)));
                must(stranger.is_none(), || format!("{stranger:?} is no member of {name}, and known to it"))
            }
            Expect::Role(name, member, master) => {
                let address = self.process(name, *member)?.instance.address;
                let nodes = crate::cluster::nodes(&self.world.hosts);
                let is_master = nodes.get(&address).map(|node| node.is_master && !node.slots.is_empty());
                must(is_master == Some(*master), || format!("{name}/{member} is a master: {is_master:?}"))
            }
            Expect::NoOffers => {
                let all = self.world.mesos.frameworks();
                let held: Vec<String> = all
                    .iter()
                    .filter(|framework| framework.offers > 0)
                    .map(|framework| format!("{} holds {}", framework.name, framework.offers))
                    .collect();
                must(held.is_empty(), || held.join("; "))
            }
            Expect::Leader(wanted) => {
                let leader = view.leader();
                must(leader.as_ref() == Some(wanted), || {
                    format!("{} leads", leader.as_deref().unwrap_or("nobody"))
                })
            }
            Expect::Nothing(name) => {
                let left = view.keys(&keys::cluster(&cluster(name)?));
                let processes = self.processes(name).len();
                must(left.is_empty() && processes == 0, || {
                    format!("{processes} processes and {left:?} are left")
                })
            }
            Expect::Task(id, wanted, message) => {
                let entry = view.entries.get(keys::task_status(&task_id(view, id)?).as_str());
                let status =
                    entry.and_then(|e| serde_json::from_slice::<overlord_api::TaskStatus>(&e.value).ok());
                let Some(status) = status else {
                    return must(wanted == "absent" || wanted == "False", || {
                        format!("task {id} has no status")
                    });
                };
                let right = status.state.to_string() == *wanted
                    && message.as_ref().is_none_or(|pattern| is_like(&status.error, pattern));
                must(right, || format!("task {id} is {}: {:?}", status.state, status.error))
            }
            Expect::Event { reason, cluster, object, message } => {
                let has = self.events.has(cluster, reason, object.as_deref(), message.as_deref());
                must(has, || format!("no such event {reason} of {cluster}"))
            }
            Expect::Key(key, wanted) => self.key_is(view, key, wanted.as_deref()),
            Expect::Setting(name, member, wanted) => {
                let seen = self.process(name, *member)?;
                wanted.iter().try_for_each(|(directive, value)| {
                    let has = seen.settings.get(directive);
                    must(has == Some(value), || format!("{name}/{member} runs with {directive} {has:?}"))
                })
            }
            Expect::Same(..) | Expect::Restarted(..) | Expect::Moved(..) => self.compare(expect),
        }
    }

    fn key_is(&self, view: &View, key: &str, wanted: Option<&str>) -> Result<(), String> {
        let key = self.key(key)?;
        let value =
            view.entries.get(key.as_str()).map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        match (value, wanted) {
            (None, None) => Ok(()),
            (Some(value), Some(pattern)) => must(is_like(&value, pattern), || format!("{key} holds {value}")),
            (Some(value), None) => Err(format!("{key} holds {value}")),
            (None, Some(_)) => Err(format!("there is no {key}")),
        }
    }

    /// Compares with what was remembered.
    fn compare(&self, expect: &Expect) -> Result<(), String> {
        let (Expect::Same(name, _) | Expect::Restarted(name, _) | Expect::Moved(name, _)) = expect else {
            return Ok(());
        };
        let Some(before) = self.remembered.get(name) else {
            return Err(format!("{name} was not remembered"));
        };
        let one = |member: u32| {
            let old = before.get(&member).ok_or_else(|| format!("{name}/{member} was not there then"))?;
            Ok::<_, String>((old, self.process(name, member)?))
        };
        match expect {
            Expect::Same(_, None) => {
                let old: Vec<u32> = before.values().map(|seen| seen.pid).collect();
                let mut new: Vec<(u32, u32)> =
                    self.processes(name).iter().map(|seen| (seen.instance.member, seen.pid)).collect();
                new.sort_unstable();
                let new: Vec<u32> = new.into_iter().map(|(_, pid)| pid).collect();
                must(old == new, || format!("the processes of {name} are {new:?}, and were {old:?}"))
            }
            Expect::Same(_, Some(member)) => {
                let (old, new) = one(*member)?;
                must(old.pid == new.pid, || {
                    format!("{name}/{member} is process {}, and was {}", new.pid, old.pid)
                })
            }
            Expect::Restarted(_, member) => {
                let (old, new) = one(*member)?;
                let same = old.instance.address == new.instance.address;
                must(old.pid != new.pid && same && new.serving, || {
                    format!("{name}/{member} is process {} at {}", new.pid, new.instance.address)
                })
            }
            Expect::Moved(_, member) => {
                let (old, new) = one(*member)?;
                let elsewhere = old.instance.address.ip != new.instance.address.ip;
                must(elsewhere && new.serving, || format!("{name}/{member} is at {}", new.instance.address))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the status speaks of the newest spec.
fn is_news(view: &View, name: &str) -> Result<(), String> {
    let cluster = cluster(name)?;
    let text = view.mod_revision(&keys::config(&cluster));
    let told = view.status(&cluster).map_or(0, |status| status.config_revision);
    must(told == text, || format!("the status of {name} speaks of an older spec"))
}

fn condition(
    view: &View,
    name: &str,
    kind: &str,
    wanted: &str,
    reason: Option<&str>,
    message: Option<&str>,
) -> Result<(), String> {
    is_news(view, name)?;
    let status = view.status(&cluster(name)?);
    let found = status.as_ref().and_then(|s| s.conditions.iter().find(|c| c.kind.to_string() == kind));
    let Some(found) = found else {
        return must(wanted == "absent" || wanted == "False", || format!("{name} has no condition {kind}"));
    };
    let truth = match found.status {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    };
    let right = truth == wanted
        && reason.is_none_or(|reason| found.reason == reason)
        && message.is_none_or(|pattern| is_like(&found.message, pattern));
    must(right, || format!("{kind} of {name} is {truth} because {} {:?}", found.reason, found.message))
}
