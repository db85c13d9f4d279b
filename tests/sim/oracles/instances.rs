//! What is recorded of instances: one for each member, one for each address, each Mesos task id once, no address
//! before its quarantine is over, no more members down by our act than the spec allows, and spread as it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use overlord_api::{Address, ClusterName, Info, State, keys::Key};

use super::{Changed, Inner, Look, Oracles};
use crate::{store::Who, view::View};

/// No address is given to another member before this time has passed: the quarantine of the settings.
const QUARANTINE: Duration = Duration::from_secs(120);

/// `update.maxUnavailable` of a spec that does not say.
const MAX_UNAVAILABLE: usize = 1;

fn info_of(value: Option<&Vec<u8>>) -> Option<Info> {
    serde_json::from_slice(value?).ok()
}

impl Oracles {
    pub(super) fn check_instances(&self, inner: &mut Inner, look: &Look<'_>) {
        if !look.changes.iter().any(|change| matches!(Key::parse(&change.key), Key::Info(..))) {
            return;
        }
        if look.who == Who::Hand {
            return;
        }
        self.check_pairs(&inner.view.infos());
        let mut touched: BTreeSet<ClusterName> = BTreeSet::new();
        for change in look.changes {
            let Key::Info(cluster, address) = Key::parse(&change.key) else { continue };
            if !matches!(look.who, Who::Controller(_)) {
                continue;
            }
            let old = info_of(change.old.as_ref());
            match &change.new {
                None => self.check_left(inner, look, address, old),
                Some(_) => self.check_put(inner, look.before, change, &cluster, address, old),
            }
            touched.insert(cluster);
        }
        for cluster in touched {
            self.check_budget(look.before, &inner.view, &cluster);
            self.check_spread(look.before, &inner.view, &cluster);
        }
    }

    fn check_pairs(&self, infos: &[(ClusterName, Info)]) {
        let mut addresses: BTreeSet<Address> = BTreeSet::new();
        let mut members: BTreeSet<(&str, u32)> = BTreeSet::new();
        let mut tasks: BTreeSet<&str> = BTreeSet::new();
        for (cluster, info) in infos {
            let address = info.address();
            if !addresses.insert(address) {
                self.trace.violation(format!("address {address} belongs to two instances"));
            }
            if info.desired.state != State::Gone && !members.insert((&info.uid, info.member)) {
                self.trace.violation(format!("member {cluster}/{} has two instances", info.member));
            }
            if !tasks.insert(&info.mesos_task_id) {
                self.trace.violation(format!("Mesos task {} has two instances", info.mesos_task_id));
            }
        }
    }

    /// An info is gone: its address is in quarantine from the same transaction on.
    fn check_left(&self, inner: &mut Inner, look: &Look<'_>, address: Address, old: Option<Info>) {
        let now = self.clock.monotonic();
        let Some(old) = old else { return };
        if inner.view.quarantine(address).is_none() {
            let (member, task) = (old.member, &old.mesos_task_id);
            self.trace.violation(format!("member {member} left {address} ({task}) without a quarantine"));
        }
        let again =
            inner.view.infos().iter().any(|(_, info)| info.uid == old.uid && info.member == old.member);
        if old.desired.state == State::Gone && !again {
            inner.removed.insert((old.uid.clone(), old.member));
        }
        inner.left.insert(address, (now, old.uid, old.member));
        let _ = look;
    }

    fn check_put(
        &self,
        inner: &mut Inner,
        before: &View,
        change: &Changed,
        cluster: &ClusterName,
        address: Address,
        old: Option<Info>,
    ) {
        let Some(info) = info_of(change.new.as_ref()) else {
            self.trace.violation(format!("{} cannot be read", change.key));
            return;
        };
        let first = inner.tasks.entry(info.mesos_task_id.clone()).or_insert_with(|| change.key.to_string());
        if *first != *change.key || (old.is_none() && before.info_of_task(&info.mesos_task_id).is_some()) {
            self.trace.violation(format!("Mesos task id {} is used twice", info.mesos_task_id));
        }
        let same = old.as_ref().is_some_and(|old| old.uid == info.uid && old.member == info.member);
        if old.is_some() && !same {
            self.trace.violation(format!("the info at {address} passed to another member at once"));
        }
        if old.is_some() {
            return;
        }
        let member = info.member;
        if inner.removed.contains(&(info.uid.clone(), member)) {
            self.trace.violation(format!("member number {cluster}/{member} is given twice"));
        }
        // By the world's clock, whatever the product has written down: an own member may come back to its address.
        if let Some((at, uid, by)) = inner.left.get(&address) {
            let ago = self.clock.monotonic().saturating_sub(*at);
            let own = *uid == info.uid && *by == member;
            if ago < QUARANTINE && !own {
                let text =
                    format!("{cluster}/{member} got {address}, which is in quarantine: left {ago:?} ago");
                self.trace.violation(text);
            }
        }
    }

    /// Restarts and relaunches that we order ourselves are staggered: no more at once than the spec allows. What
    /// broke by itself does not count.
    fn check_budget(&self, before: &View, after: &View, cluster: &ClusterName) {
        let ordered = |view: &View| -> BTreeMap<u32, u64> {
            let own = view.infos().into_iter().filter(|(of, info)| of == cluster && is_restarting(info));
            own.map(|(_, info)| (info.member, info.desired.restart)).collect()
        };
        let (old, new) = (ordered(before), ordered(after));
        let said = after.config(cluster).and_then(|text| {
            let (_, rest) = text.split_once("maxUnavailable:")?;
            let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        if new.len() > said.unwrap_or(MAX_UNAVAILABLE)
            && new.iter().any(|(member, at)| old.get(member) != Some(at))
        {
            let members: Vec<String> = new.keys().map(u32::to_string).collect();
            self.trace.violation(format!(
                "update budget: members {} of {cluster} restart at once by our order",
                members.join(", ")
            ));
        }
    }

    /// One member on each host, for the clusters whose spec demands it: where a new one is put, none is.
    fn check_spread(&self, before: &View, after: &View, cluster: &ClusterName) {
        let spread = |text: String| text.contains("by: host, rule: required");
        if !after.config(cluster).is_some_and(spread) {
            return;
        }
        let known: BTreeSet<String> =
            before.infos().into_iter().map(|(_, info)| info.mesos_task_id).collect();
        let infos: Vec<Info> =
            after.infos().into_iter().filter(|(of, _)| of == cluster).map(|(_, info)| info).collect();
        for new in infos.iter().filter(|info| !known.contains(&info.mesos_task_id)) {
            let beside = infos.iter().find(|other| {
                other.ip == new.ip && other.member != new.member && other.desired.state == State::Running
            });
            if let Some(other) = beside {
                self.trace.violation(format!(
                    "placement: members {} and {} of {cluster} are on one host, {}",
                    other.member, new.member, new.ip
                ));
            }
        }
    }
}

/// Whether a restart was ordered that is not done, of an instance that would run otherwise.
fn is_restarting(info: &Info) -> bool {
    info.desired.state == State::Running
        && info.desired.restart > info.observed.restart
        && matches!(info.observed.state, State::Running | State::Restarting)
}
