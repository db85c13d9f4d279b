//! The masters themselves: which one leads, what becomes of its knowledge when it dies, and how the next one learns
//! it anew from its registry, its agents and its frameworks.

use std::{net::SocketAddr, time::Duration};

use overlord_mesos::v1::{FrameworkId, OfferId, TaskState};
use rand::Rng as _;

use super::{
    Answer, MasterFault, Model, Output,
    saved::Key,
    types::{AgentProcess, Registration, Timer},
};
use crate::config::MesosConfig;

/// Followers forget a dead leader when its ZooKeeper session is over (`--zk_session_timeout`).
const SESSION: Duration = Duration::from_secs(10);
/// Agents that hear of a new leader from ZooKeeper register at once.
const PROMPT: Duration = Duration::from_millis(200);
/// How long an agent waits at most before it registers (`--registration_backoff_factor`).
const BACKOFF: Duration = Duration::from_secs(1);

/// All masters, of which one leads.
#[derive(Debug)]
pub(crate) struct Masters {
    addresses: Vec<SocketAddr>,
    leader: usize,
    phase: Phase,
    /// Counts masters that have led.
    term: u64,
    died: Duration,
    /// The leading one started with an empty registry, and agents it had are still to come back.
    amnesia: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Leads,
    /// Reads its registry.
    Recovers,
    Dead,
    /// None of them has ever been elected.
    Unelected,
}

/// What a master does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Leads,
    /// 503 "Master has not finished recovery"
    Recovers,
    /// 307 to the leader, or to who was it last.
    Follows(SocketAddr),
    /// 503 "No leader elected"
    Leaderless,
}

impl Masters {
    pub(crate) fn new(config: &MesosConfig) -> Self {
        let mut addresses = vec![config.master];
        addresses.extend(&config.followers);
        let phase = if config.leaderless { Phase::Unelected } else { Phase::Leads };
        Self { addresses, leader: 0, phase, term: 0, died: Duration::ZERO, amnesia: false }
    }

    pub(super) fn leads(&self) -> bool {
        self.phase == Phase::Leads
    }

    /// Whether agents that are not back are known from the registry.
    pub(super) fn remembers(&self) -> bool {
        !self.amnesia
    }

    fn leader_address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.leader).copied()
    }
}

impl Model {
    /// What one of the masters does with a request now.
    pub(crate) fn standing(&self, now: Duration, index: usize) -> Standing {
        match (index == self.masters.leader, self.masters.phase) {
            (_, Phase::Unelected) => Standing::Leaderless,
            (true, Phase::Leads) => Standing::Leads,
            (true, _) => Standing::Recovers,
            (false, Phase::Dead) if now.saturating_sub(self.masters.died) >= SESSION => Standing::Leaderless,
            (false, _) => self.masters.leader_address().map_or(Standing::Leaderless, Standing::Follows),
        }
    }

    /// What a framework's call meets before it is looked at.
    pub(super) fn master_refuses(&self) -> Option<Answer> {
        match self.masters.phase {
            Phase::Leads => None,
            Phase::Recovers => Some(Answer::refused(503, "Master has not finished recovery")),
            Phase::Unelected => Some(Answer::refused(503, "No leader elected")),
            Phase::Dead => Some(Answer::Unavailable),
        }
    }

    pub(super) fn master_fault(&mut self, fault: MasterFault) -> Answer {
        match fault {
            MasterFault::Kill => self.master_dies(),
            MasterFault::Start { keep_registry } => self.master_starts(keep_registry),
            MasterFault::Failover { after, keep_registry } => {
                self.master_dies();
                self.after(after, Timer::MasterStart { keep_registry });
            }
        }
        Answer::Accepted
    }

    /// Everything that only the master knew is gone; what agents and executors know is not.
    fn master_dies(&mut self) {
        if self.masters.phase == Phase::Dead {
            return;
        }
        self.masters.phase = Phase::Dead;
        self.masters.died = self.now;
        self.masters.term += 1;
        self.out.push(Output::Master { index: self.masters.leader, up: false });
        for stream in std::mem::take(&mut self.scheduler_streams).into_keys() {
            self.out.push(Output::End(stream));
        }
        for stream in std::mem::take(&mut self.operators) {
            self.out.push(Output::End(stream));
        }
        let ids: Vec<FrameworkId> = self.frameworks.keys().cloned().collect();
        for id in ids {
            let Some(framework) = self.frameworks.get_mut(&id) else { continue };
            framework.subscription = None;
            framework.generation += 1;
            framework.filters.clear();
            framework.inverse_filters.clear();
            framework.completed.clear();
            framework.forgotten = true;
            let offers: Vec<OfferId> = framework.offers.iter().cloned().collect();
            for offer in offers {
                self.withdraw_offer(&offer);
            }
            self.forget_inverse_offers_of(&id);
        }
        self.completed.clear();
        for agent in self.agents.values_mut() {
            if matches!(agent.registration, Registration::Registered | Registration::Disconnected) {
                agent.registration = Registration::Recovered;
                // Pings that were waited for are no concern of the next master.
                agent.link.disconnects += 1;
            }
        }
        for task in self.tasks.values_mut() {
            task.forgotten = true;
        }
        self.allocatable.clear();
        self.allocation_at = None;
        for id in std::mem::take(&mut self.removed) {
            self.note(Key::Removed(id));
        }
    }

    pub(super) fn master_starts(&mut self, keep_registry: bool) {
        if self.masters.phase != Phase::Dead {
            return;
        }
        let old = self.masters.leader;
        self.masters.leader = (old + 1) % self.masters.addresses.len().max(1);
        self.masters.phase = Phase::Recovers;
        self.masters.amnesia = !keep_registry;
        if let Some(address) = self.masters.leader_address() {
            self.master = address;
        }
        self.master_id = self.new_uuid();
        self.next.framework = 0;
        self.next.agent = 0;
        self.next.offer = 0;
        self.started_at = self.now;
        if !keep_registry {
            self.gone.clear();
            self.maintenance = super::maintenance::Maintenance::default();
        }
        // The dead one is started again, too, to lead or to follow.
        self.out.push(Output::Master { index: old, up: true });
        let term = self.masters.term;
        self.after(self.timings.master_recovery, Timer::MasterRecovered { term });
    }

    /// The new master has read its registry, and waits for its agents.
    pub(super) fn master_recovered(&mut self, term: u64) {
        if self.masters.term != term || self.masters.phase != Phase::Recovers {
            return;
        }
        self.masters.phase = Phase::Leads;
        // One that was given up may have become well while nobody led: it registers as the others do.
        let waiting = |agent: &super::Agent| match agent.registration {
            Registration::Recovered => Some(true),
            Registration::Unreachable { .. } => Some(false),
            _ => None,
        };
        let agents: Vec<(String, bool)> =
            self.agents.iter().filter_map(|(name, agent)| Some((name.clone(), waiting(agent)?))).collect();
        for (name, expected) in agents {
            let at = self.return_time();
            self.at(at, Timer::Reregister { agent: name.clone(), term });
            if expected && !self.masters.amnesia {
                self.after(self.timings.agent_reregister, Timer::NotBack { agent: name, term });
            }
        }
        let ids: Vec<FrameworkId> = self.frameworks.keys().cloned().collect();
        for id in ids {
            let timeout = self.frameworks.get(&id).map(super::Framework::failover_timeout);
            // One that would be gone at once is waited for: it may never have been without a connection.
            if timeout.is_some_and(|timeout| !timeout.is_zero()) {
                self.expect_failover(&id);
            }
        }
    }

    /// When an agent turns to the new master.
    fn return_time(&mut self) -> Duration {
        let fraction: f64 = self.rng.random();
        if let Some(after) = self.timings.agents_return {
            return self.now + after;
        }
        if self.masters.addresses.len() > 1 {
            return self.now + PROMPT.mul_f64(fraction);
        }
        // It has counted the pings it missed, the last of which came some time before the end.
        let missed = self.masters.died + self.ping_timeout.mul_f64(1.0 - 0.1 * fraction);
        missed.max(self.now + BACKOFF.mul_f64(fraction))
    }

    pub(super) fn reregister_due(&mut self, name: &str, term: u64) {
        let Some(agent) = self.agents.get(name) else { return };
        let waits = !agent.is_registered() && agent.registration != Registration::Removed;
        // One that is away registers when it is back.
        if self.masters.term == term && waits && agent.process == AgentProcess::Up && !agent.link.cut {
            self.agent_registers(name, 1);
        }
    }

    /// An agent has registered: the master learns from it what runs there, and whose it is.
    pub(super) fn learn_from_agent(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        let agent_id = agent.id.clone();
        let mut owners: Vec<FrameworkId> = agent.executors.keys().map(|(id, _)| id.clone()).collect();
        let forgotten = |key: &super::TaskKey| self.tasks.get(key).is_some_and(|task| task.forgotten);
        let learnt: Vec<_> = self.tasks_of_agent(&agent_id).into_iter().filter(forgotten).collect();
        owners.extend(learnt.iter().map(|(id, _)| id.clone()));
        for id in owners {
            if let Some(framework) = self.frameworks.get_mut(&id).filter(|framework| framework.forgotten) {
                framework.forgotten = false;
                framework.recovered = true;
            }
        }
        for key in learnt {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            task.forgotten = false;
            if !self.masters.amnesia || task.state.is_terminal() {
                continue;
            }
            let text = "Unknown agent reregistered";
            if let Some(mut status) = self.task_status(&key, "REASON_AGENT_REREGISTERED", text) {
                status.state =
                    if status.state == TaskState::Unknown { TaskState::Staging } else { status.state };
                self.send_status(&key.0, status);
            }
        }
    }

    /// An agent of the registry did not come back: it is unreachable.
    pub(super) fn not_back(&mut self, name: &str, term: u64) {
        let recovered = |agent: &&mut super::Agent| agent.registration == Registration::Recovered;
        let Some(agent) = self.agents.get_mut(name).filter(recovered) else { return };
        if self.masters.term != term {
            return;
        }
        agent.registration = Registration::Unreachable { since: self.now };
        let id = agent.id.clone();
        self.announce_failure(&id);
    }
}
