//! Plays a script in a world.

use jiff::SignedDuration;
use overlord_api::Kind;

use super::{Event, Script};
use crate::{
    converge,
    machine::REFUSED,
    net::Peer,
    pool::Pool,
    world::{AGENTS, World},
};

impl World {
    /// Plays a script. Whatever it leaves broken is mended behind it.
    pub(crate) async fn play(&mut self, script: &Script) -> Result<(), String> {
        // Writes when the world last became quiet.
        let mut quiet: Option<u64> = None;
        for (at, event) in &script.0 {
            self.pass(at.saturating_sub(self.trace.now())).await;
            if let Some(before) = quiet.take() {
                converge::stayed_quiet(self, before).await?;
            }
            if matches!(event, Event::Calm) {
                self.mend().await;
                converge::converge(self, converge::BOUND).await?;
                quiet = Some(converge::settle(self).await);
            } else if let Some(kind) = self.happen(event).await {
                self.trace.count(kind);
            }
            if let Some(violation) = self.trace.violated() {
                return Err(violation);
            }
        }
        self.mend().await;
        Ok(())
    }

    /// Mends all that does not mend itself, and waits for what time mends.
    pub(crate) async fn mend(&mut self) {
        self.mended_by_time().await;
        self.net.mend();
        self.hosts.fail_starts(0);
        self.mend_links();
        for agent in 0..AGENTS {
            self.return_agent(agent);
        }
        self.ensure_controller();
        let refused =
            self.pools.values().filter(|pool| pool.config.get(REFUSED.0).is_some_and(|v| v == REFUSED.1));
        for pool in refused.cloned().collect::<Vec<_>>() {
            self.apply(pool.with(REFUSED.0, 7)).await;
        }
    }

    /// Lets an event happen. The kind it counts as, if it could happen at all.
    async fn happen(&mut self, event: &Event) -> Option<&'static str> {
        match *event {
            Event::Create(..)
            | Event::ConfigLive(_)
            | Event::ConfigRefused(_)
            | Event::ConfigRestart(_)
            | Event::ScaleOut(_)
            | Event::ScaleIn(_)
            | Event::Delete(_) => self.declare(event).await,
            Event::KillProcess(number) => self.kill_process(number).map(|_| "kill process"),
            Event::KillExecutor(number) => self.kill_executor(number).then_some("kill executor"),
            Event::FailStarts(number) => {
                self.trace.line(format!("the next {number} starts fail"));
                self.hosts.fail_starts(number);
                Some("failing starts")
            }
            Event::AgentLost(..)
            | Event::AgentReturns(_)
            | Event::AgentRestart(_)
            | Event::AgentRenewed(_)
            | Event::AgentDrained(..)
            | Event::AgentMaintained(..)
            | Event::AgentMarkedGone(..)
            | Event::MachineLost(..) => self.strike_agent(event),
            Event::ControllerCrash
            | Event::CrashAtEffect(..)
            | Event::ControllerStop
            | Event::ControllerStart
            | Event::ControllerStandby
            | Event::ControllerCutOff(_)
            | Event::ControllerPaused(..)
            | Event::ClockJump(..) => self.strike_controller(event).await,
            Event::StoreAway(_)
            | Event::StoreLossy(_)
            | Event::StoreReliable
            | Event::StoreCompacted
            | Event::StoreSlow(..)
            | Event::StoreNoQuorum(_)
            | Event::StoreLateWrites(..)
            | Event::StoreFull(_)
            | Event::LeaseLost => self.strike_store(event).await,
            Event::ProcessHangs(number, time) => self.hang_process(number, time).map(|_| "process hangs"),
            Event::HostCutOff(agent, time) => {
                self.cut_host_off(agent, time);
                Some("host cut off")
            }
            Event::DiskFull(agent, time) => {
                self.fill_disk(agent, time);
                Some("disk full")
            }
            Event::MesosCut
            | Event::MesosLossy(_)
            | Event::MesosReliable
            | Event::MasterFailover(..)
            | Event::MasterSlow(..)
            | Event::OffersRescinded
            | Event::KillsDropped(_)
            | Event::UpdatesLost(_)
            | Event::UpdatesTwice(_)
            | Event::UpdatesDelayed(..) => self.strike_mesos(event),
            Event::Calm => None,
        }
    }

    fn strike_agent(&mut self, event: &Event) -> Option<&'static str> {
        match *event {
            Event::AgentLost(agent, long) => {
                let kind = if long { "agent lost for long" } else { "agent lost for a while" };
                self.lose_agent(agent).then_some(kind)
            }
            Event::AgentReturns(agent) => {
                self.return_agent(agent);
                None
            }
            Event::AgentRestart(agent) => self.restart_agent(agent).then_some("agent restart"),
            Event::AgentRenewed(agent) => self.renew_agent(agent).then_some("agent renewed"),
            Event::AgentDrained(agent, time) => self.drain_agent(agent, time).then_some("agent drained"),
            Event::AgentMaintained(agent, after, lasts) => {
                self.maintain_agent(agent, after, lasts).then_some("agent maintained")
            }
            Event::AgentMarkedGone(agent, time) => {
                self.mark_agent_gone(agent, time).then_some("agent marked gone")
            }
            Event::MachineLost(agent, time) => self.lose_machine(agent, time).then_some("machine lost"),
            _ => None,
        }
    }

    async fn strike_controller(&mut self, event: &Event) -> Option<&'static str> {
        match *event {
            Event::ControllerCrash => self.crash_controller().await.then_some("controller crash"),
            Event::CrashAtEffect(effect, side) => {
                // Counted when it happens.
                self.effects.crash_at(effect, side);
                None
            }
            Event::ControllerStop => self.stop_controller().await.then_some("controller stop"),
            Event::ControllerStart => {
                self.ensure_controller();
                None
            }
            Event::ControllerStandby => self.start_standby().then_some("controller standby"),
            Event::ControllerCutOff(time) => self.cut_controller_off(time).then_some("controller cut off"),
            Event::ControllerPaused(time, suspended) => {
                let kind =
                    if suspended { "controller suspended" } else { "controller stopped and continued" };
                self.pause_controller(time, suspended).then_some(kind)
            }
            Event::ClockJump(by, time) => {
                let kind = if by > 0 { "clock forwards" } else { "clock backwards" };
                self.jump_clock(SignedDuration::from_secs(by), time).then_some(kind)
            }
            _ => None,
        }
    }

    async fn strike_store(&mut self, event: &Event) -> Option<&'static str> {
        match *event {
            Event::StoreAway(time) => {
                self.cut_store_off(time);
                Some("store away")
            }
            Event::StoreLossy(percent) => {
                self.trace.line(format!("{percent} % of the calls to the store get lost"));
                self.net.set_loss(Peer::Store, percent);
                Some("store calls lost")
            }
            Event::StoreReliable => {
                self.net.set_loss(Peer::Store, 0);
                None
            }
            Event::StoreCompacted => {
                self.compact().await;
                Some("store compacted")
            }
            Event::StoreSlow(slowest, time) => {
                self.slow_store(slowest, time);
                Some("store slow")
            }
            Event::StoreNoQuorum(time) => {
                self.lose_quorum(time);
                Some("store without quorum")
            }
            Event::StoreLateWrites(late, time) => {
                self.hold_writes(late, time);
                Some("store writes late")
            }
            Event::StoreFull(time) => {
                self.fill_store(true);
                let store = self.store.clone();
                self.later(time, "the store has room again".to_owned(), move || {
                    store.set_alarm_no_space(false);
                });
                Some("store full")
            }
            Event::LeaseLost => self.lose_lease().await.then_some("lease lost"),
            _ => None,
        }
    }

    fn strike_mesos(&mut self, event: &Event) -> Option<&'static str> {
        match *event {
            Event::MesosCut => {
                self.trace.line("the connection to Mesos breaks");
                self.net.cut_mesos();
                Some("mesos connection cut")
            }
            Event::MesosLossy(percent) => {
                self.trace.line(format!("{percent} % of the calls to Mesos get lost"));
                self.net.set_loss(Peer::Mesos, percent);
                Some("mesos calls lost")
            }
            Event::MesosReliable => {
                self.net.set_loss(Peer::Mesos, 0);
                None
            }
            Event::MasterFailover(after, forgets) => {
                self.fail_master_over(after, !forgets);
                Some(if forgets { "master forgets agents" } else { "master failover" })
            }
            Event::MasterSlow(delay, time) => {
                self.slow_master(delay, time);
                Some("master slow")
            }
            Event::OffersRescinded => {
                self.rescind_all();
                Some("offers rescinded")
            }
            Event::KillsDropped(number) => {
                self.drop_kills(number);
                Some("kills dropped")
            }
            Event::UpdatesLost(number) => {
                self.disturb_updates(number, false);
                Some("updates lost")
            }
            Event::UpdatesTwice(number) => {
                self.disturb_updates(number, true);
                Some("updates twice")
            }
            Event::UpdatesDelayed(delay, time) => {
                self.delay_updates(delay, time);
                Some("updates delayed")
            }
            _ => None,
        }
    }

    /// A declared pool.
    fn declared(&self, number: u32) -> Option<&Pool> {
        self.pools.values().nth(number as usize % self.pools.len().max(1))
    }

    /// Declares, edits or deletes a pool.
    async fn declare(&mut self, event: &Event) -> Option<&'static str> {
        if let Event::Create(name, members) = *event {
            if self.pools.contains_key(name) {
                return None;
            }
            let pool = Pool::new(name, members);
            let kind = pool.kind;
            self.apply(pool).await;
            return Some(if kind == Kind::Memcache { "create memcache" } else { "create redis" });
        }
        if let Event::Delete(number) = *event {
            let name = self.declared(number)?.name;
            return self.delete(name).await.then_some("delete");
        }
        let (&Event::ConfigLive(n)
        | &Event::ConfigRefused(n)
        | &Event::ConfigRestart(n)
        | &Event::ScaleOut(n)
        | &Event::ScaleIn(n)) = event
        else {
            return None;
        };
        let old = self.declared(n)?;
        let (pool, members) = (old.clone(), old.members);
        let memcache = pool.kind == Kind::Memcache;
        let (edited, kind) = match *event {
            Event::ConfigLive(_) if memcache => (pool.with("memory-limit", 20 + n % 20), "config live"),
            Event::ConfigLive(_) => (pool.with(REFUSED.0, 14 + n % 20), "config live"),
            Event::ConfigRefused(_) if memcache => return None,
            Event::ConfigRefused(_) => (pool.with(REFUSED.0, REFUSED.1), "config refused"),
            Event::ConfigRestart(_) if memcache => (pool.with("threads", 5 + n % 8), "config by restart"),
            Event::ConfigRestart(_) => (pool.with("databases", 17 + n % 50), "config by restart"),
            Event::ScaleOut(_) => (pool.sized((members + 1).min(5)), "scale out"),
            _ => (pool.sized((members - 1).max(1)), "scale in"),
        };
        if edited == *old {
            return None;
        }
        self.apply(edited).await;
        Some(kind)
    }
}
