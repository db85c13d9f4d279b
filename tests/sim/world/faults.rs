//! What can break in a world: processes, executors, agents, the store, Mesos; and what mends it.

use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use overlord_api::keys;
use overlord_executor::Ended;
use overlord_sandbox::AgentFault;
use overlord_store::Store as _;
use tokio::time::sleep;

use super::{AGENTS, World, agent_ip, agent_name};
use crate::machine::Seen;

/// From an agent's start to the moment when nobody acts on its absence any more.
const RETURN_SLACK: Duration = Duration::from_secs(5);

impl World {
    /// Whether an agent's machine is there and its agent runs.
    pub(crate) fn is_there(&self, number: u8) -> bool {
        !self.lost.contains(&number) && !self.away().contains(&number)
    }

    fn away(&self) -> MutexGuard<'_, BTreeSet<u8>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when all that breaks for a while is mended.
    pub(crate) async fn mended_by_time(&self) {
        while self.breaks.load(Ordering::Relaxed) > 0 {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// `kill -9` of a server; the number chooses one. What was killed.
    pub(crate) fn kill_process(&self, number: u32) -> Option<Seen> {
        let mut processes = self.hosts.processes();
        let index = number as usize % processes.len().max(1);
        let seen = (!processes.is_empty()).then(|| processes.swap_remove(index))?;
        self.trace.line(format!("somebody kills process {}", seen.pid));
        self.hosts.end(seen.pid, Ended::Signal(9), "");
        Some(seen)
    }

    /// `kill -9` of an executor; the number chooses one. Whether there was one.
    pub(crate) fn kill_executor(&self, number: u32) -> bool {
        let containers = self.launcher.containers();
        let Some(container) = containers.get(number as usize % containers.len().max(1)) else { return false };
        let on =
            self.mesos.agents().into_iter().find(|a| a.containers.iter().any(|(held, _)| held == container));
        let lost = on.is_some_and(|agent| self.lost.iter().any(|number| agent_name(*number) == agent.name));
        self.launcher.kill_executor(container, lost);
        true
    }

    /// An agent is lost. What runs on it, runs on. Whether it was there.
    pub(crate) fn lose_agent(&mut self, number: u8) -> bool {
        if !self.is_there(number) {
            return false;
        }
        self.lost.insert(number);
        self.trace.line(format!("{} is lost", agent_name(number)));
        self.hosts.set_lost(agent_ip(number), true);
        self.mesos.agent_lost(&agent_name(number));
        true
    }

    /// A lost agent is back. Whether it was lost.
    pub(crate) fn return_agent(&mut self, number: u8) -> bool {
        if !self.lost.remove(&number) {
            return false;
        }
        self.trace.line(format!("{} is back", agent_name(number)));
        self.launcher.end_orphans(&agent_name(number));
        self.mesos.agent_return(&agent_name(number));
        // Replacements that were decided while the master missed it may still be on their way.
        let (hosts, host) = (self.hosts.clone(), agent_ip(number));
        self.net.spawn(async move {
            sleep(RETURN_SLACK).await;
            hosts.set_lost(host, false);
        });
        true
    }

    /// An agent restarts, and takes a second for it. Whether it was there.
    pub(crate) fn restart_agent(&self, number: u8) -> bool {
        if !self.is_there(number) {
            return false;
        }
        self.trace.line(format!("{} restarts", agent_name(number)));
        self.mesos.agent_restart(&agent_name(number))
    }

    /// An agent is replaced by one with an empty work directory. Whether it was there.
    pub(crate) fn renew_agent(&self, number: u8) -> bool {
        if !self.is_there(number) {
            return false;
        }
        self.trace.line(format!("{} gets a new id", agent_name(number)));
        self.mesos.agent_new_id(&agent_name(number))
    }

    /// Cuts the store off for a while.
    pub(crate) fn cut_store_off(&self, time: Duration) {
        self.trace.line(format!("the store is cut off for {time:?}"));
        self.store.set_unavailable(true);
        let store = self.store.clone();
        self.later(time, "the store is there again".to_owned(), move || store.set_unavailable(false));
    }

    /// The store forgets its history.
    pub(crate) async fn compact(&self) {
        if let Ok(listing) = self.store.get(keys::LEADER).await {
            self.trace.line(format!("the store is compacted to {}", listing.revision));
            self.store.compact(listing.revision);
        }
    }

    /// Does something later, whatever else happens meanwhile: mends what breaks now.
    pub(crate) fn later(&self, after: Duration, what: String, act: impl FnOnce() + Send + 'static) {
        let (trace, breaks) = (self.trace.clone(), Arc::clone(&self.breaks));
        breaks.fetch_add(1, Ordering::Relaxed);
        self.net.spawn(async move {
            sleep(after).await;
            trace.line(what);
            act();
            breaks.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// An agent is away; after a while it is brought back in some way.
    fn away_for(&self, number: u8, time: Duration, what: String, back: impl FnOnce() + Send + 'static) {
        self.away().insert(number);
        let away = Arc::clone(&self.away);
        self.later(time, what, move || {
            away.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            back();
        });
    }

    /// The store takes up to this long for each thing, for a while: longer than its clients wait, sometimes.
    pub(crate) fn slow_store(&self, slowest: Duration, time: Duration) {
        self.trace.line(format!("the store takes up to {slowest:?} for a call, for {time:?}"));
        self.net.set_store_slowness(slowest);
        let net = self.net.clone();
        self.later(time, "the store is quick again".to_owned(), move || {
            net.set_store_slowness(Duration::ZERO);
        });
    }

    /// The store has no quorum for a while: it takes calls and answers none.
    pub(crate) fn lose_quorum(&self, time: Duration) {
        self.trace.line(format!("the store has no quorum for {time:?}"));
        self.net.set_no_quorum(true);
        let net = self.net.clone();
        self.later(time, "the store has a quorum again".to_owned(), move || net.set_no_quorum(false));
    }

    /// The lease of the leader ends at once: the store lost it.
    pub(crate) async fn lose_lease(&self) -> bool {
        let Ok(found) = self.store.get(keys::LEADER).await else { return false };
        let Some(entry) = found.entries.first() else { return false };
        self.trace.line(format!("the store loses the lease of {}", String::from_utf8_lossy(&entry.value)));
        self.oracles.look(crate::store::Who::Time, None).await;
        let gone = self.store.lease_revoke(entry.lease).await.is_ok();
        self.oracles.look(crate::store::Who::Time, None).await;
        gone
    }

    /// Writes that are sent in this time arrive that much later, whatever has become of their senders.
    pub(crate) fn hold_writes(&self, late: Duration, time: Duration) {
        self.trace.line(format!("for {time:?} writes to the store arrive {late:?} late"));
        self.net.set_late_writes(late);
        let net = self.net.clone();
        self.later(time, "writes arrive at once again".to_owned(), move || {
            net.set_late_writes(Duration::ZERO);
        });
    }

    /// For a while the store tells late of what changes.
    pub(crate) fn hold_news(&self, late: Duration, time: Duration) {
        self.trace.line(format!("for {time:?} the store tells {late:?} late of what changes"));
        self.net.set_late_news(late);
        let net = self.net.clone();
        self.later(time, "the store tells at once again".to_owned(), move || {
            net.set_late_news(Duration::ZERO);
        });
    }

    /// An operator drains an agent, and lets it be used again after a while. Whether it was there.
    pub(crate) fn drain_agent(&mut self, number: u8, time: Duration) -> bool {
        if !self.is_there(number) || !self.mesos.drain(&agent_name(number), Some(Duration::from_secs(20))) {
            return false;
        }
        let name = agent_name(number);
        self.trace.line(format!("{name} is drained for {time:?}"));
        let (mesos, hosts) = (self.mesos.clone(), self.hosts.clone());
        hosts.drain(agent_ip(number), true);
        self.later(time, format!("{name} may be used again"), move || {
            mesos.reactivate(&name);
            hosts.drain(agent_ip(number), false);
        });
        true
    }

    /// Maintenance is announced for a machine; it goes down, and is up again. Whether it was there.
    pub(crate) fn maintain_agent(&mut self, number: u8, after: Duration, lasts: Duration) -> bool {
        let name = agent_name(number);
        let announce = AgentFault::Announce { after, lasts };
        if !self.is_there(number) || self.mesos.agent_fault(&name, announce).is_err() {
            return false;
        }
        self.trace.line(format!("maintenance of {name} is announced in {after:?} for {lasts:?}"));
        let (mesos, down) = (self.mesos.clone(), name.clone());
        self.later(after, format!("the machine of {name} goes down"), move || {
            // Its agent may be gone by now.
            let _ = mesos.agent_fault(&down, AgentFault::MachineDown);
        });
        let mesos = self.mesos.clone();
        self.away_for(number, after + lasts, format!("{name} is maintained"), move || {
            let _ = mesos.agent_fault(&name, AgentFault::MachineUp);
            mesos.agent_return(&name);
        });
        true
    }

    /// An agent's machine is lost for good with all that runs on it; after a while a new one stands there. Whether it
    /// was there.
    pub(crate) fn lose_machine(&mut self, number: u8, time: Duration) -> bool {
        let name = agent_name(number);
        if !self.is_there(number) || !self.mesos.agent_gone(&name) {
            return false;
        }
        self.trace.line(format!("the machine of {name} is lost for good"));
        self.launcher.end_orphans(&name);
        let (mesos, place) = (self.mesos.clone(), format!("a new machine stands at the place of {name}"));
        self.away_for(number, time, place, move || {
            mesos.agent_return(&name);
        });
        true
    }

    /// An operator declares an agent gone; a new one takes its place after a while. Whether it was there.
    pub(crate) fn mark_agent_gone(&mut self, number: u8, time: Duration) -> bool {
        let name = agent_name(number);
        if !self.is_there(number) || !self.mesos.mark_gone(&name) {
            return false;
        }
        self.trace.line(format!("an operator declares {name} gone"));
        let (mesos, anew) = (self.mesos.clone(), format!("{name} is set up anew"));
        self.away_for(number, time, anew, move || {
            mesos.agent_new_id(&name);
        });
        true
    }

    /// The master dies, and another leads after a while; `keeps` the registry of agents, or not.
    pub(crate) fn fail_master_over(&self, after: Duration, keeps: bool) {
        let registry = if keeps { "with" } else { "without" };
        self.trace.line(format!("the master dies; another leads after {after:?}, {registry} its registry"));
        if keeps { self.mesos.master_failover(after) } else { self.mesos.master_failover_forgetting(after) }
    }

    /// The master takes so long for each answer, for a while.
    pub(crate) fn slow_master(&self, delay: Duration, time: Duration) {
        self.trace.line(format!("the master takes {delay:?} for each answer, for {time:?}"));
        self.mesos.slow(delay);
        let mesos = self.mesos.clone();
        self.later(time, "the master is quick again".to_owned(), move || mesos.slow(Duration::ZERO));
    }

    /// The offers of all agents are taken back.
    pub(crate) fn rescind_all(&self) {
        self.trace.line("the master takes all offers back");
        for agent in 0..AGENTS {
            self.mesos.rescind(&agent_name(agent));
        }
    }

    /// The next KILLs to all agents get lost.
    pub(crate) fn drop_kills(&self, number: u32) {
        self.trace.line(format!("the next {number} KILLs to each agent get lost"));
        for agent in 0..AGENTS {
            self.mesos.drop_kills(&agent_name(agent), number);
        }
    }

    /// The next updates of all agents get lost, or come twice.
    pub(crate) fn disturb_updates(&self, number: u32, twice: bool) {
        let what = if twice { "come twice" } else { "get lost" };
        self.trace.line(format!("the next {number} updates of each agent {what}"));
        for agent in 0..AGENTS {
            if twice {
                self.mesos.duplicate_updates(&agent_name(agent), number);
            } else {
                self.mesos.drop_updates(&agent_name(agent), number);
            }
        }
    }

    /// The updates of some agents take a while, those of others do not: they overtake each other.
    pub(crate) fn delay_updates(&self, delay: Duration, time: Duration) {
        self.trace.line(format!("updates of every second agent take {delay:?}, for {time:?}"));
        for agent in (0..AGENTS).step_by(2) {
            self.mesos.delay_updates(&agent_name(agent), delay);
        }
        let mesos = self.mesos.clone();
        self.later(time, "updates are quick again".to_owned(), move || {
            for agent in 0..AGENTS {
                mesos.delay_updates(&agent_name(agent), Duration::ZERO);
            }
        });
    }

    /// Nothing gets lost, comes twice or comes late between agents and master any more.
    pub(crate) fn mend_links(&self) {
        self.effects.calm();
        self.mesos.slow(Duration::ZERO);
        for agent in 0..AGENTS {
            let name = agent_name(agent);
            self.mesos.drop_kills(&name, 0);
            self.mesos.drop_updates(&name, 0);
            self.mesos.duplicate_updates(&name, 0);
            self.mesos.delay_updates(&name, Duration::ZERO);
        }
    }
}
